"""Prediction behind fastervit predict: from sources to pictures, label maps and one json."""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np

from ..datasets.images import read_image
from ..datasets.panoptic import as_pixels
from ..inference.predictor import Predictor
from ..inference.sources import Source, read_video, video_size
from ..structures.prediction import Prediction, segments_of
from ..utils.errors import UserError
from ..utils.files import check_folder_writable, full_disk_behind
from ..utils.log import log
from ..utils.progress import progress_bar
from ..utils.threads import WriteBehind, read_ahead
from ..visualization.palette import colorize_label_map
from .formats import write_results
from .log import PredictionLog
from .names import ResultNames
from .pictures import label_files, open_writer, panoptic_file, write_image
from .processes import Share
from .report import PredictionReport
from .task import Batch, Task, image_entry


class PredictionRun:
    """One run over sources.

    Args:
        predictor: the model.
        out: folder for ``predictions.json`` (COCO), ``pictures/`` and, for segmentation, ``labels/`` and
            ``colors/``.
        settings: arguments that the results depend on, beside the predictor's own settings; results of other
            settings are not mixed.
        batch: images per batch.
        pictures: write annotated pictures and videos.
        overwrite: repeat what is already done.
        image_ids: real path of an image -> its id; None: the ids of the config's test data set.
        save: further formats, of :data:`~.formats.FORMATS`.
        share: this process's part of the sources; None: all of them.

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
        share: Share | None = None,
    ) -> None:
        check_folder_writable('--out', out)
        if batch < 1:
            raise UserError(f'--batch {batch}: must be at least 1')
        if pictures and find_spec('supervision') is None:
            raise UserError('pictures need the package supervision: pip install supervision, or --no-draw')
        of_objects = [name for name in save if name in ('yolo', 'labelme')]
        if of_objects and (predictor.semantic or predictor.classification):
            raise UserError(f'--save {of_objects[0]}: its files are for objects, and this model finds none')
        self.save = save
        self.predictor, self.out, self.batch, self.pictures = predictor, Path(out), batch, pictures
        self.categories = predictor.categories
        self.report = PredictionReport()
        self.share = share or Share()
        self.report.rank = self.share.rank
        self._settings = predictor.settings() | dict(settings)
        self._image_ids = predictor.image_ids() if image_ids is None else image_ids
        self._names = ResultNames()
        self._overwrite, self._run = overwrite, ''
        self.share.first(self._open_log)  # it repairs the logs, and discards results
        if self.share.rank > 0:
            self._open_log()
        self.share.wait()

    def _open_log(self) -> None:
        overwrite = self._overwrite and self.share.rank == 0
        self.log = PredictionLog(self.out, self._settings, overwrite, self.share.rank)
        if self.share.rank == 0 and (self.out / 'colours').is_dir() and not (self.out / 'colors').exists():
            (self.out / 'colours').rename(self.out / 'colors')  # of an earlier version
        for stem in self.log.discarded:
            pictures = (f'pictures/{stem}.jpg', f'pictures/{stem}.mp4')
            for name in (*pictures, *label_files(stem), panoptic_file(stem)):
                (self.out / name).unlink(missing_ok=True)
        for entry in self.log.entries():
            self._names.reserve(entry['stem'], *(image['file_name'] for image in entry['images']))

    def run(self, sources: Iterable[Source]) -> PredictionReport:
        """Predict what is not done yet, then write the json of all results; sources that fail are skipped.

        Args:
            sources: of all processes; iterated over twice.

        Returns:
            the report of all processes in the first one, of its own part in the others.

        Raises:
            UserError: the disk is full.
        """
        with closing(self.log):
            digest, images, clips = hashlib.blake2b(digest_size=8), 0, 0
            for source in sources:
                digest.update(os.fsencode(source.path) + b'\0')
                done = str(source.path) in self.log
                self.report.done_before += done
                images += not done and not source.is_video
                clips += not done and source.is_video
            self._run = digest.hexdigest()
            if self.share.rank == 0:
                what = f'{images} images' + (f' and {clips} videos' if clips else '')
                log(f'predicting {what} on {self.predictor.device} into {self.out}')
            videos: list[Task] = []
            start = time.perf_counter()
            self._predict_images(self._tasks(sources, videos), -(-images // self.share.count))
            for task in videos:
                with self._skip_on_error(task.source):
                    self._predict_video(task)
            self.report.elapsed = time.perf_counter() - start
            self.report.seconds['model'] = self.predictor.seconds['model']
            others = self.share.gather(self.report)  # when all are done
            if self.share.rank == 0:
                for report in others[1:]:
                    self.report.add(report)
                self.report.json = self._write_results()
        return self.report

    def _tasks(self, sources: Iterable[Source], videos: list[Task]) -> Iterator[Task]:
        """Yield the images of this process, and append its videos; every process names all sources alike."""
        todo = ((n, source) for n, source in enumerate(sources) if str(source.path) not in self.log)
        for count, (number, source) in enumerate(todo):
            stem = self._names.stem(source)
            task = Task(source, number, self._names.name(source), stem)
            if self.share.takes(count):
                if source.is_video:
                    videos.append(task)
                else:
                    yield task

    def _predict_images(self, tasks: Iterator[Task], number: int) -> None:
        batches = -(-number // self.batch)
        what = 'batches of images' if self.batch > 1 else 'images'
        with WriteBehind() as writer:
            for group, pixels in progress_bar(self._batches(tasks), batches, what):
                writer.submit(self._save_images, group, pixels, self._predict(group, pixels))

    def _save_images(
        self,
        tasks: Sequence[Task],
        pixels: Sequence[np.ndarray],
        predictions: Sequence[Prediction | None],
    ) -> None:
        for task, image, prediction in zip(tasks, pixels, predictions, strict=True):
            if prediction is not None:
                with self._skip_on_error(task.source):
                    self._save_image(task, image, prediction)

    def _predict(self, tasks: Sequence[Task], pixels: Sequence[np.ndarray]) -> list[Prediction | None]:
        """Predict a batch; on failure, image by image, with None for those that fail."""
        try:
            return list(self.predictor.predict_pixels(pixels, self.batch))
        except UserError:
            results: list[Prediction | None] = []
            for task, image in zip(tasks, pixels, strict=True):
                results.append(None)
                with self._skip_on_error(task.source):
                    results[-1] = self.predictor.predict_pixels([image])[0]
            return results

    @contextmanager
    def _skip_on_error(self, source: Source) -> Iterator[None]:
        """Report an error of the block and continue, unless the disk is full."""
        try:
            yield
        except (UserError, OSError) as error:
            cause = full_disk_behind(error)
            if cause is not None:
                raise UserError(
                    f'--out {self.out}: {cause.strerror}; finished results are kept: '
                    'free some space, then repeat the command to resume'
                ) from error
            message = str(error)
            if str(source.path) not in message:
                message = f'{source.path}: {message}'
            self.report.failed[source.name] = message

    def _batches(self, tasks: Iterator[Task]) -> Iterator[Batch]:
        """Yield batches of images; the next one is read while the model computes."""
        groups = iter(lambda: list(islice(tasks, self.batch)), [])
        return read_ahead(self._load(group) for group in groups)

    def _load(self, tasks: Sequence[Task]) -> Batch:
        """Read images; those that cannot be read are skipped."""
        readable, pixels = [], []
        with self._timed('load'):
            for task in tasks:
                with self._skip_on_error(task.source):
                    pixels.append(read_image(task.source.path, self.predictor.pixels))
                    readable.append(task)
        return readable, pixels

    def _save_image(self, task: Task, pixels: np.ndarray, prediction: Prediction) -> None:
        """Write the files of an image, then log it as done."""
        stem, label_map = task.stem, prediction.label_map
        if self.pictures:
            with self._timed('draw'):
                picture = self.predictor.picture(pixels, prediction)
        with self._timed('write'):
            if self.pictures:
                write_image(self.out / 'pictures' / f'{stem}.jpg', np.ascontiguousarray(picture[..., ::-1]))
            if label_map is not None:
                labels_file, colors_file = label_files(stem)
                write_image(self.out / labels_file, self._label_values(label_map))
                write_image(self.out / colors_file, colorize_label_map(label_map, self.categories.names))
            image = image_entry(task.name, prediction.size, id=self._image_ids.get(str(task.source.path)))
            if prediction.panoptic is not None:
                ids, image['segments_info'] = segments_of(prediction.panoptic, self.categories)
                image['panoptic_file'] = panoptic_file(stem)
                write_image(self.out / image['panoptic_file'], as_pixels(ids))
            self._finish(task, [image], prediction.to_coco(0, self.categories))

    def _predict_video(self, task: Task) -> None:
        """Predict every frame, write the annotated video and log it as done."""
        source, writer = task.source, None
        rate, count = video_size(source.path)
        target = self.out / 'pictures' / f'{task.stem}.mp4'
        temporary = target.with_name(f'.{target.name}.part.mp4')
        images: list[dict] = []
        annotations: list[dict] = []

        def write_frame(pixels: np.ndarray, prediction: Prediction) -> None:
            nonlocal writer
            with self._timed('draw'):
                picture = self.predictor.picture(pixels, prediction)
            with self._timed('write'):
                writer = writer or open_writer(temporary, rate, picture.shape[:2])
                writer.write(picture)

        try:
            with WriteBehind(2 * self.batch) as behind:
                for pixels, prediction in progress_bar(self._frames(source), count or None, source.name):
                    annotations += prediction.to_coco(len(images), self.categories)
                    images.append(
                        image_entry(f'{task.name}#{len(images)}', prediction.size, frame=len(images))
                    )
                    if self.pictures:
                        behind.submit(write_frame, pixels, prediction)
            if writer is not None:
                writer.release()
                os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        self._finish(task, images, annotations)

    def _frames(self, source: Source) -> Iterator[tuple[np.ndarray, Prediction]]:
        if not self.predictor.pixels.is_color:
            raise UserError(f'{source.path}: a video has colors, and the model reads other channels')

        def load() -> list[np.ndarray]:
            with self._timed('load'):
                return list(islice(frames, self.batch))

        with closing(read_video(source.path)) as frames, closing(read_ahead(iter(load, []))) as batches:
            for batch in batches:
                yield from zip(batch, self.predictor.predict_pixels(batch, self.batch), strict=True)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.report.seconds[part] += time.perf_counter() - start

    def _finish(self, task: Task, images: list[dict], annotations: list[dict]) -> None:
        """Log a source; ``image_id`` in its annotations is the number of the image within it."""
        entry = dict(stem=task.stem, images=images, annotations=annotations)
        self.log.add(self._run, task.number, dict(source=str(task.source.path)) | entry)
        self.report.images += len(images)

    def _label_values(self, label_map: np.ndarray) -> np.ndarray:
        """Class indices -> the data set's own values; ignored pixels become 255 (65535 in 16 bits)."""
        ids = self.categories.ids
        dtype = np.uint8 if max(ids) < 255 else np.uint16
        values = np.full(np.iinfo(label_map.dtype).max + 1, np.iinfo(dtype).max, dtype)
        values[: len(ids)] = ids
        return values[label_map]

    def _write_results(self) -> Path:
        info = dict(
            description='predictions',
            label_maps=self.predictor.semantic,
            classification=self.predictor.classification,
            own_category_ids=self.categories.own,
        )
        last_id = max(self._image_ids.values(), default=0)
        return write_results(self.out, self.log.sorted_entries(), info, self.categories, last_id, self.save)
