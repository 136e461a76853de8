"""Routes of the vision system that this one replaces: a stream of frames that is answered by captions, and more."""
