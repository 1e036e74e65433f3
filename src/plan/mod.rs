//! What will be done: the steps of a build as a value, decided before anything runs.

pub mod composing;
pub mod dating;
pub mod edits;
pub mod gates;
pub mod grouping;
pub mod identity;
pub mod lint;
pub mod locking;
pub mod matrix;
pub mod news;
pub mod publish;
pub mod source;
pub mod steps;
pub mod wiring;
