"""Prediction behind tools/predict.py: from sources to pictures, label maps and one json."""

import errno
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..structures.prediction import Prediction
from ..utils.errors import UserError
from ..utils.files import check_folder_writable, replacing
from ..utils.progress import progress_bar
from ..visualization.palette import colorize_label_map
from .prediction_log import PredictionLog
from .predictor import Predictor
from .result_names import ResultNames
from .save_as import save_as
from .sources import Source, read_image, read_video, video_size

#: Sources and their pixels.
Batch = tuple[list[Source], list[np.ndarray]]


@dataclass
class PredictionReport:
    """Outcome of a run.

    Args:
        images: images predicted in this run, counting every frame of a video.
        done_before: sources that an earlier run had finished.
        failed: name of a skipped source -> why reading, predicting or writing failed.
        seconds: time spent in ``load``, ``model``, ``draw`` and ``write``.
        elapsed: seconds from the first to the last image; images are loaded while others are processed.
        json: the file with all results.
    """

    images: int = 0
    done_before: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(('load', 'model', 'draw', 'write'), 0.0)
    )
    elapsed: float = 0.0
    json: Path | None = None

    def lines(self) -> list[str]:
        """Format the report for the user."""
        lines = []
        if self.done_before:
            lines.append(f'{self.done_before} already done and kept (--overwrite repeats them)')
        if self.images:
            parts = ', '.join(f'{name} {self.images / s:.3g}' for name, s in self.seconds.items() if s)
            rate = f'{self.images / self.elapsed:.3g} images/s'
            lines.append(
                f'{self.images} images in {self.elapsed:.1f} s: {rate} (each part by itself: {parts})'
            )
        lines += [f'skipped: {reason}' for reason in self.failed.values()]
        lines.append(f'written: {self.json}' + (f'; {len(self.failed)} failed' if self.failed else ''))
        return lines


class PredictionRun:
    """One run over sources.

    Args:
        predictor: the model.
        out: folder for ``predictions.json`` (COCO), ``pictures/`` and, for segmentation, ``labels/`` and
            ``colours/``.
        settings: arguments that the results depend on, beside the predictor's own settings; results of other
            settings are not mixed.
        batch: images per batch.
        pictures: write annotated pictures and videos.
        overwrite: repeat what is already done.
        image_ids: real path of an image -> its id; None: the ids of the config's test data set.
        save: further formats, of :data:`~.save_as.FORMATS`.

    Raises:
        UserError: ``out`` cannot be written, or has results of other settings.
    """

    def __init__(
        self,
        predictor: Predictor,
        out: str | Path,
        settings: Mapping[str, object],
        *,
        batch: int = 1,
        pictures: bool = True,
        overwrite: bool = False,
        image_ids: Mapping[str, int] | None = None,
        save: Sequence[str] = (),
    ) -> None:
        check_folder_writable('--out', out)
        if batch < 1:
            raise UserError(f'--batch {batch}: must be at least 1')
        if pictures and find_spec('supervision') is None:
            raise UserError('pictures need the package supervision: pip install supervision, or --no-draw')
        if 'yolo' in save and (predictor.semantic or predictor.classification):
            raise UserError('--save yolo: its files are for objects, and this model finds none')
        self.save = save
        self.predictor, self.out, self.batch, self.pictures = predictor, Path(out), batch, pictures
        self.categories = predictor.categories
        self.report = PredictionReport()
        self.log = PredictionLog(self.out, predictor.settings() | dict(settings), overwrite)
        self._image_ids = predictor.image_ids() if image_ids is None else image_ids
        self._names = ResultNames()
        used_ids = [0, *self._image_ids.values()]
        for entry in self.log.done.values():
            self._names.reserve(entry['stem'], *(image['file_name'] for image in entry['images']))
            used_ids += [image['id'] for image in entry['images']]
        self._next_id = 1 + max(used_ids)
        for stem in self.log.discarded:
            for name in (f'pictures/{stem}.jpg', f'pictures/{stem}.mp4', *_label_files(stem)):
                (self.out / name).unlink(missing_ok=True)

    def run(self, sources: Sequence[Source]) -> PredictionReport:
        """Predict what is not done yet, then write the json of all results; sources that fail are skipped.

        Raises:
            UserError: the disk is full.
        """
        with closing(self.log):
            todo = [source for source in sources if str(source.path) not in self.log.done]
            self.report.done_before = len(sources) - len(todo)
            start = time.perf_counter()
            self._predict_images([source for source in todo if not source.is_video])
            for source in todo:
                if source.is_video:
                    with self._skip_on_error(source):
                        self._predict_video(source)
            self.report.elapsed = time.perf_counter() - start
            self.report.seconds['model'] = self.predictor.seconds['model']
            self.report.json = self._write_json()
        return self.report

    def _predict_images(self, sources: Sequence[Source]) -> None:
        batches = -(-len(sources) // self.batch)
        for group, pixels in progress_bar(self._batches(sources), batches, 'batches of images'):
            for source, image, prediction in zip(group, pixels, self._predict(group, pixels), strict=True):
                if prediction is not None:
                    with self._skip_on_error(source):
                        self._save_image(source, image, prediction)

    def _predict(self, sources: Sequence[Source], pixels: Sequence[np.ndarray]) -> list[Prediction | None]:
        """Predict a batch; on failure, image by image, with None for those that fail."""
        try:
            return list(self.predictor.predict_pixels(pixels, self.batch))
        except UserError:
            results: list[Prediction | None] = []
            for source, image in zip(sources, pixels, strict=True):
                results.append(None)
                with self._skip_on_error(source):
                    results[-1] = self.predictor.predict_pixels([image])[0]
            return results

    @contextmanager
    def _skip_on_error(self, source: Source) -> Iterator[None]:
        """Report an error of the block and continue, unless the disk is full."""
        try:
            yield
        except (UserError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f'--out {self.out}: {cause.strerror}; finished results are kept: '
                    'free some space, then repeat the command to resume'
                ) from error
            message = str(error)
            if str(source.path) not in message:
                message = f'{source.path}: {message}'
            self.report.failed[source.name] = message

    def _batches(self, sources: Sequence[Source]) -> Iterator[Batch]:
        """Yield batches of images; a second thread reads the next batch while the model computes."""
        groups = [sources[i : i + self.batch] for i in range(0, len(sources), self.batch)]
        with ThreadPoolExecutor(1) as pool:
            pending: list[Future[Batch]] = [pool.submit(self._load, group) for group in groups[:1]]
            for i in range(len(groups)):
                batch = pending.pop().result()
                pending += [pool.submit(self._load, group) for group in groups[i + 1 : i + 2]]
                yield batch

    def _load(self, sources: Sequence[Source]) -> Batch:
        """Read images; those that cannot be read are skipped."""
        readable, pixels = [], []
        with self._timed('load'):
            for source in sources:
                with self._skip_on_error(source):
                    pixels.append(read_image(source.path))
                    readable.append(source)
        return readable, pixels

    def _save_image(self, source: Source, pixels: np.ndarray, prediction: Prediction) -> None:
        """Write the files of an image, then log it as done."""
        stem, label_map = self._names.stem(source), prediction.label_map
        if self.pictures:
            with self._timed('draw'):
                picture = self.predictor.picture(pixels, prediction)
        with self._timed('write'):
            if self.pictures:
                _write_image(self.out / 'pictures' / f'{stem}.jpg', np.ascontiguousarray(picture[..., ::-1]))
            if label_map is not None:
                labels_file, colors_file = _label_files(stem)
                _write_image(self.out / labels_file, self._label_values(label_map))
                _write_image(self.out / colors_file, colorize_label_map(label_map, self.categories.names))
            image_id = self._image_ids.get(str(source.path))
            image = self._image_entry(self._names.name(source), prediction.size, image_id)
            self._finish(source, stem, [image], prediction.to_coco(image['id'], self.categories))

    def _predict_video(self, source: Source) -> None:
        """Predict every frame, write the annotated video and log it as done."""
        rate, count = video_size(source.path)
        stem, writer = self._names.stem(source), None
        target = self.out / 'pictures' / f'{stem}.mp4'
        temporary = target.with_name(f'.{target.name}.part.mp4')
        name = self._names.name(source)
        images: list[dict] = []
        annotations: list[dict] = []
        try:
            for pixels, prediction in progress_bar(self._frames(source), count or None, source.name):
                image = self._image_entry(f'{name}#{len(images)}', prediction.size, None, frame=len(images))
                images.append(image)
                annotations += prediction.to_coco(image['id'], self.categories)
                if self.pictures:
                    with self._timed('draw'):
                        picture = self.predictor.picture(pixels, prediction)
                    with self._timed('write'):
                        writer = writer or _open_writer(temporary, rate, picture.shape[:2])
                        writer.write(picture)
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
        self.log.add(dict(source=str(source.path), stem=stem, images=images, annotations=annotations))
        self.report.images += len(images)

    def _image_entry(self, name: str, size: tuple[int, int], image_id: int | None, **extra: int) -> dict:
        """COCO's entry of an image; a new id where ``image_id`` is None."""
        if image_id is None:
            image_id, self._next_id = self._next_id, self._next_id + 1
        return dict(id=image_id, file_name=name, height=size[0], width=size[1], **extra)

    def _label_values(self, label_map: np.ndarray) -> np.ndarray:
        """Class indices -> the data set's own values; ignored pixels become 255 (65535 in 16 bits)."""
        ids = self.categories.ids
        dtype = np.uint8 if max(ids) < 255 else np.uint16
        values = np.full(np.iinfo(label_map.dtype).max + 1, np.iinfo(dtype).max, dtype)
        values[: len(ids)] = ids
        return values[label_map]

    def _write_json(self) -> Path:
        path = self.out / 'predictions.json'
        entries = list(self.log.done.values())
        annotations = [annotation for entry in entries for annotation in entry['annotations']]
        content = dict(
            info=dict(
                description='predictions',
                label_maps=self.predictor.semantic,
                classification=self.predictor.classification,
                own_category_ids=self.categories.own,
            ),
            images=[image for entry in entries for image in entry['images']],
            categories=self.categories.as_coco(),
            annotations=[dict(annotation, id=i) for i, annotation in enumerate(annotations, 1)],
        )
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content))
        save_as(content, self.save, self.out)
        return path


def _label_files(stem: str) -> tuple[str, str]:
    """Relative paths of a label map and of its colored picture."""
    return f'labels/{stem}.png', f'colours/{stem}.png'


def _write_image(path: Path, pixels: np.ndarray) -> None:
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format='PNG' if path.suffix == '.png' else 'JPEG', quality=92)


def _open_writer(path: Path, rate: float, size: tuple[int, int]) -> cv2.VideoWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), rate, size[::-1])
    if not writer.isOpened():
        raise UserError(f'{path}: OpenCV cannot write a video there: --no-draw skips it')
    return writer
