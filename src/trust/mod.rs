//! Who said what of which bytes: keys, signatures, statements, and the verdict on them.
//!
//! ```text
//! key         P-256 keys, their signatures and fingerprints
//! bundle      a signed payload as Sigstore has it (DSSE in a bundle v0.3)
//! statement   what is signed of an image (in-toto), and how it hangs on the image (OCI referrer)
//! simple      the older form of a signature, which podman and skopeo read
//! release     the statement on a whole release          keyring   which keys a root key vouches for
//! ssh         signatures of tags, as git and ssh-keygen read them
//! yank        the statement by which a release is taken back
//! provenance  what an image was made from, and how    results   what its tests found
//! rebuilt     what came of making a release again      cached     that a step gave this result
//! chain       how a security rebuild leads back to the release that it mends
//! ```

pub mod bundle;
pub mod cached;
pub mod chain;
pub mod key;
pub mod keyring;
pub mod provenance;
pub mod rebuilt;
pub mod release;
pub mod results;
pub mod sign;
pub mod simple;
pub mod ssh;
pub mod statement;
pub mod verdict;
pub mod yank;
