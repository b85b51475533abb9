"""What a caller's own serializer has to be: `Cache(serializer=...)`."""

from memstream._core.codec import Serializer, SerializerChoice

__all__ = ["Serializer", "SerializerChoice"]
