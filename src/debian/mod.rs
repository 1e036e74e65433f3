//! What Debian says.
