//! parvis builds the container images of a whole system from Debian packages.
//!
//! The map, in the order of imports: a file imports only from lines above its own. `tests/it/architecture.rs` holds it.
//!
//! ```text
//! failure    what went wrong, for whom, with which exit code       imports nothing
//! screen     how a person is spoken to, whoever prints             imports nothing
//! model      WHAT THINGS ARE      digest name tree recipe project lock   pure
//! composer   WHAT COMPOSER SAYS   composer.json, composer.lock, what an installation takes   pure
//! debian     WHAT DEBIAN SAYS     control version index package resolve  pure
//! plan       WHAT WILL BE DONE    the steps and their keys, advice       pure
//! image      WHAT THE BYTES ARE   tar, layers, OCI documents, archives   pure
//! trust      WHO SAID WHAT        keys, signatures, statements on images and releases, the verdict   pure
//! bundle     WHAT PEOPLE RUN      what a bundle says, its settings, backups   pure
//! edge       THE DOORS            disk, network, sandbox, other programs; none imports another
//! execute    a plan meets the doors
//! verbs      one file per subcommand
//! ui         sole printer         cli  sole reader of the command line and the environment
//! ```

pub mod failure;
pub mod screen;

pub mod model;

pub mod bundle;
pub mod composer;
pub mod debian;
pub mod edge;
pub mod image;
pub mod plan;
pub mod trust;

pub mod execute;

pub mod verbs;

pub mod cli;
pub mod ui;
