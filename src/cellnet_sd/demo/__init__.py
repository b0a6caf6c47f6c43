"""The demonstration: from a Cell-NET file to clusters, spatial domains, communication and figures."""

from cellnet_sd.demo.run import DemoResult, run

__all__ = ["DemoResult", "run"]
