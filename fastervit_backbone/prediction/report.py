"""Outcome of a prediction, for the user."""

from dataclasses import dataclass, field
from pathlib import Path


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
        rank: of the process.
    """

    images: int = 0
    done_before: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(('load', 'model', 'draw', 'write'), 0.0)
    )
    elapsed: float = 0.0
    json: Path | None = None
    rank: int = 0

    def add(self, other: 'PredictionReport') -> None:
        """Add that of another process, which ran at the same time."""
        self.images += other.images
        self.failed |= other.failed
        for part, seconds in other.seconds.items():
            self.seconds[part] += seconds
        self.elapsed = max(self.elapsed, other.elapsed)

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
        pictures = self.json.with_name('pictures') if self.json else None
        also = f', pictures in {pictures}' if pictures and pictures.is_dir() else ''
        failed = f'; {len(self.failed)} failed' if self.failed else ''
        return [*lines, f'written: {self.json}{also}{failed}']
