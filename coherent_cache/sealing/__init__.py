"""Values as bytes: written exactly, sealed for one address, and opened only there."""

from .envelope import Envelope, Opened
from .serializers import PickleSerializer, PlainForm, Serializer, TypedSerializer

__all__ = [
    "Envelope",
    "Opened",
    "PickleSerializer",
    "PlainForm",
    "Serializer",
    "TypedSerializer",
]
