"""What each room of the page reads for its template; one file a room.

Must not know HTML, and changes nothing. A room that needs nothing besides the reading has no file here.
"""

__all__ = ["buckets", "failures", "gate", "logs", "origins", "rules", "scans"]
