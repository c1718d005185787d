"""One self-contained page of a benchmark: `write_report`; its pictures are chosen by `notable`."""

from benchmarks.report.page import Exhibit, write_report
from benchmarks.report.queries import Notable, notable

__all__ = ["Exhibit", "Notable", "notable", "write_report"]
