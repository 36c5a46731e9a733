"""Prediction behind tools/predict.py: sources in; pictures, label maps and one json out."""

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from ..engine.runner.work_dir import find_checkpoint
from ..structures.prediction import Prediction
from ..utils.errors import UserError
from ..utils.files import check_folder_writable, replacing
from ..visualization.draw import colour_map, draw
from .load_model import test_dataset, test_image_ids
from .prediction_log import PredictionLog
from .predictor import Predictor
from .result_names import Names
from .sources import Source, read_image, read_video, video_size


@dataclass
class Report:
    """How a run went.

    Args:
        images: predicted in this run, frames of videos each.
        before: sources that an earlier run had done.
        failed: source name -> why it was left out: it cannot be read, predicted on, or its results written.
        seconds: in ``load``, ``model``, ``draw``, ``write``.
        elapsed: seconds from the first to the last image; loading runs beside the rest.
        json: the file with all results.
    """

    images: int = 0
    before: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(('load', 'model', 'draw', 'write'), 0.0)
    )
    elapsed: float = 0.0
    json: Path | None = None

    def lines(self) -> list[str]:
        """For people."""
        said = []
        if self.before:
            said.append(f'{self.before} done before, kept (--overwrite does them again)')
        if self.images:
            parts = ', '.join(f'{name} {self.images / s:.3g}' for name, s in self.seconds.items() if s)
            said.append(
                f'{self.images} images in {self.elapsed:.1f} s: {self.images / self.elapsed:.3g} images/s (each part alone: {parts})'
            )
        said += [f'left out: {reason}' for reason in self.failed.values()]
        said.append(f'written: {self.json}' + (f'; {len(self.failed)} failed' if self.failed else ''))
        return said


def settings_of(predictor: Predictor, checkpoint: str | Path, **arguments: object) -> dict:
    """What tells one run's results from another's: the weights, what the config says of the model and of images, and the arguments."""
    path = find_checkpoint(checkpoint)
    with (
        path.open('rb') as file
    ):  # a torch file ends with the checksums of all its parts, a safetensors file begins with its shapes
        head = file.read(2**20)
        file.seek(-min(2**20, path.stat().st_size), os.SEEK_END)
        weights = hashlib.sha256(head + file.read()).hexdigest()[:16]
    config = repr(
        (
            predictor.config.model.to_dict(),
            test_dataset(predictor.config).get('pipeline'),
            predictor.categories,
        )
    )
    return dict(
        checkpoint=f'{weights} {path.stat().st_size}',
        config=hashlib.sha256(config.encode()).hexdigest()[:16],
        **arguments,
    )


class PredictionRun:
    """One run over sources.

    Args:
        predictor: what predicts.
        out: folder for ``predictions.json`` (COCO), ``pictures/`` and, for segmentation, ``labels/`` and ``colours/``.
        settings: as :func:`settings_of`; results of other settings are not mixed.
        batch: images that the model sees at a time.
        pictures: write annotated pictures and videos.
        overwrite: do again what is done.
        image_ids: real path of an image -> its id; None: those of the config's test data set.

    Raises:
        UserError: ``out`` cannot be written, or holds results of other settings.
    """

    def __init__(
        self,
        predictor: Predictor,
        out: str | Path,
        settings: dict,
        *,
        batch: int = 1,
        pictures: bool = True,
        overwrite: bool = False,
        image_ids: Mapping[str, int] | None = None,
    ) -> None:
        check_folder_writable('--out', out)
        if batch < 1:
            raise UserError(f'--batch {batch}: at least 1')
        self.predictor, self.out, self.batch, self.pictures = predictor, Path(out), batch, pictures
        self.categories = predictor.categories
        self.report = Report()
        self.journal = PredictionLog(self.out, settings, overwrite)
        self._known = test_image_ids(predictor.config) if image_ids is None else image_ids
        entries = self.journal.done.values()
        self._names = Names()
        for entry in entries:
            self._names.take(entry['stem'], *(image['file_name'] for image in entry['images']))
        self._next_id = 1 + max([*self._known.values(), *(i['id'] for e in entries for i in e['images']), 0])
        for stem in self.journal.forgotten:
            for where in (
                f'pictures/{stem}.jpg',
                f'pictures/{stem}.mp4',
                f'labels/{stem}.png',
                f'colours/{stem}.png',
            ):
                (self.out / where).unlink(missing_ok=True)

    def run(self, sources: Sequence[Source]) -> Report:
        """Predict on what is not done yet; then write the json of everything. What fails is noted and left out.

        Raises:
            UserError: the disk is full.
        """
        with closing(self.journal):
            return self._run([s for s in sources if str(s.path) not in self.journal.done], len(sources))

    def _run(self, todo: Sequence[Source], count: int) -> Report:
        self.report.before = count - len(todo)
        start = time.perf_counter()
        with tqdm(total=len(todo), unit='file', disable=None) as progress:
            for group, pixels in self._batches([s for s in todo if not s.is_video]):
                for source, image, prediction in zip(
                    group, pixels, self._predict(group, pixels), strict=True
                ):
                    if prediction is not None:
                        with self._noted(source):
                            self._keep_image(source, image, prediction)
                progress.update(len(group))
            for source in (s for s in todo if s.is_video):
                with self._noted(source):
                    self._keep_video(source)
                progress.update()
        self.report.elapsed = time.perf_counter() - start
        self.report.seconds['model'] = self.predictor.seconds['model']
        self.report.json = self._write_json()
        return self.report

    def _predict(self, sources: Sequence[Source], pixels: Sequence[np.ndarray]) -> list[Prediction | None]:
        """Of a batch; where it cannot be done, one by one, and None for those that cannot."""
        try:
            return self.predictor.predict_pixels(pixels, self.batch)
        except UserError:
            results: list[Prediction | None] = []
            for source, image in zip(sources, pixels, strict=True):
                results.append(None)
                with self._noted(source):
                    results[-1] = self.predictor.predict_pixels([image])[0]
            return results

    @contextmanager
    def _noted(self, source: Source) -> Iterator[None]:
        """Note what fails in the block and go on, unless nothing more can be written."""
        try:
            yield
        except (UserError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f'--out {self.out}: {cause.strerror}; what is done is kept, the same command goes on'
                ) from error
            words = str(error)
            self.report.failed[source.name] = (
                words if str(source.path) in words else f'{source.path}: {words}'
            )

    def _batches(self, sources: Sequence[Source]) -> Iterator[tuple[list[Source], list[np.ndarray]]]:
        """Images of a batch, read by a second thread while the model computes."""
        groups = [sources[i : i + self.batch] for i in range(0, len(sources), self.batch)]
        with ThreadPoolExecutor(1) as pool:
            ahead: list[Future] = [pool.submit(self._load, group) for group in groups[:1]]
            for following in [*groups[1:], None]:
                loaded = ahead.pop().result() if ahead else ([], [])
                if following is not None:
                    ahead.append(pool.submit(self._load, following))
                if loaded[0]:
                    yield loaded

    def _load(self, sources: Sequence[Source]) -> tuple[list[Source], list[np.ndarray]]:
        good, pixels = [], []
        with self._timed('load'):
            for source in sources:
                with self._noted(source):
                    pixels.append(read_image(source.path))
                    good.append(source)
        return good, pixels

    def _keep_image(self, source: Source, pixels: np.ndarray, prediction: Prediction) -> None:
        stem = self._names.stem(source)
        if self.pictures:
            with self._timed('draw'):
                picture = draw(pixels, prediction, self.categories)
        with self._timed('write'):
            if self.pictures:
                _write_image(self.out / 'pictures' / f'{stem}.jpg', np.ascontiguousarray(picture[..., ::-1]))
            if prediction.label_map is not None:
                _write_image(self.out / 'labels' / f'{stem}.png', self._label_values(prediction.label_map))
                _write_image(
                    self.out / 'colours' / f'{stem}.png',
                    colour_map(prediction.label_map, self.categories.names),
                )
            image = self._image(self._names.name(source), prediction.size, self._known.get(str(source.path)))
            self._finish(source, stem, [image], prediction.to_coco(image['id'], self.categories))

    def _keep_video(self, source: Source) -> None:
        """Frames in, a video with pictures out; noted when it is whole."""
        rate, count = video_size(source.path)
        stem, writer = self._names.stem(source), None
        target = self.out / 'pictures' / f'{stem}.mp4'
        temporary = target.with_name(f'.{target.name}.part.mp4')
        images, annotations, name = [], [], self._names.name(source)
        try:
            with tqdm(
                total=count or None, unit='frame', desc=source.path.name, disable=None, leave=False
            ) as progress:
                for pixels, prediction in self._frames(source):
                    image = self._image(f'{name}#{len(images)}', prediction.size, None, frame=len(images))
                    images.append(image)
                    annotations += prediction.to_coco(image['id'], self.categories)
                    if self.pictures:
                        with self._timed('draw'):
                            picture = draw(pixels, prediction, self.categories)
                        with self._timed('write'):
                            writer = writer or _open_writer(temporary, rate, picture.shape[:2])
                            writer.write(picture)
                    progress.update()
            if writer is not None:
                writer.release()
                os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        self._finish(source, stem, images, annotations)

    def _frames(self, source: Source) -> Iterator[tuple[np.ndarray, Prediction]]:
        with closing(read_video(source.path)) as frames:
            while True:
                with self._timed('load'):
                    batch = list(islice(frames, self.batch))
                if not batch:
                    return
                yield from zip(batch, self.predictor.predict_pixels(batch, self.batch), strict=True)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.report.seconds[part] += time.perf_counter() - start

    def _finish(self, source: Source, stem: str, images: list[dict], annotations: list[dict]) -> None:
        self.journal.add(dict(source=str(source.path), stem=stem, images=images, annotations=annotations))
        self.report.images += len(images)

    def _image(self, name: str, size: tuple[int, int], image_id: int | None, **extra: int) -> dict:
        if image_id is None:
            image_id, self._next_id = self._next_id, self._next_id + 1
        return dict(id=image_id, file_name=name, height=size[0], width=size[1], **extra)

    def _label_values(self, label_map: np.ndarray) -> np.ndarray:
        """The data set's own values; what is no class has the largest of the type (255, 65535)."""
        ids = self.categories.ids
        dtype = np.uint8 if max(ids) < 255 else np.uint16
        values = np.full(np.iinfo(label_map.dtype).max + 1, np.iinfo(dtype).max, dtype)
        values[: len(ids)] = ids
        return values[label_map]

    def _write_json(self) -> Path:
        path = self.out / 'predictions.json'
        entries = list(self.journal.done.values())
        annotations = [a for entry in entries for a in entry['annotations']]
        content = dict(
            info=dict(
                description='predictions',
                label_maps=self.predictor.semantic,
                own_category_ids=self.categories.own,
            ),
            images=[image for entry in entries for image in entry['images']],
            categories=self.categories.as_coco(),
            annotations=[dict(a, id=i) for i, a in enumerate(annotations, 1)],
        )
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content))
        return path


def _write_image(path: Path, pixels: np.ndarray) -> None:
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format='PNG' if path.suffix == '.png' else 'JPEG', quality=92)


def _open_writer(path: Path, rate: float, size: tuple[int, int]) -> cv2.VideoWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), rate, size[::-1])
    if not writer.isOpened():
        raise UserError(f'{path}: OpenCV cannot write a video there: --no-draw leaves it out')
    return writer
