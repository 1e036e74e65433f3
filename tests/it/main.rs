//! All integration tests: one module per verb or room, in one binary.
