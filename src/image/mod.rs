//! What the bytes are.
