"""Reading and writing in place: what `Cache.view` and `Cache.reserve` give."""

from memstream._core.views import Reservation, View

__all__ = ["Reservation", "View"]
