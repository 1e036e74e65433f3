//! What will be done.
