//! `parvis sign`: images signed where they are, and the statement on a release.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::image::from_layout;
use super::key::{RELEASE, Unlock, open_key};
use super::registry::{Reach, from_repository, reference};
use super::save::from_output;
use super::workplace::Workplace;
use super::{Answer, Context, places};
use crate::edge::layout::{self, Handed};
use crate::edge::output;
use crate::edge::registry::Access;
use crate::failure::Failure;
use crate::image::archive::ReadAt as _;
use crate::image::layout::{Layout, ListedImage};
use crate::image::oci::Descriptor;
use crate::image::repository::{Repository as _, WritableRepository};
use crate::model::name::ImageName;
use crate::model::reference::Reference;
use crate::trust::key::SigningKey;
use crate::trust::release;
use crate::trust::sign::{SignError, sign};
use crate::trust::simple::SimpleError;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to sign: an image in a registry, a layout folder or an archive (`:NAME` behind it picks one image of several), or
    /// the statement on a release (default: `out` in the project)
    targets: Vec<String>,
    /// The key that signs: the name of one of your own, or a file in cosign's form
    #[arg(long, value_name = "NAME|FILE", default_value = RELEASE)]
    key: String,
    #[command(flatten)]
    unlock: Unlock,
    /// Repository that the signature names, for an image of a layout or archive (default: by its name and `registry` in `parvis.yaml`)
    #[arg(long, value_name = "REGISTRY/NAME")]
    repository: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let targets = if arguments.targets.is_empty() {
        let workplace = Workplace::open(context)?;
        vec![workplace.folder.root().join("out").display().to_string()]
    } else {
        arguments.targets.clone()
    };
    let key = open_key(&arguments.key, &arguments.unlock, context)?;
    let mut signed = Vec::new();
    for target in &targets {
        match layout::locate(target) {
            Some((path, name)) => signed.extend(sign_path(&path, name, arguments, &key, context)?),
            None => signed.push(sign_remote(&reference(target)?, arguments, &key, context)?),
        }
    }
    let fingerprint = key.public().fingerprint();
    context.answer(
        || json!({"key": fingerprint, "signed": signed.iter().map(Signed::json).collect::<Vec<_>>()}),
        || {
            let mut lines: Vec<String> = signed.iter().map(Signed::line).collect();
            lines.push(format!("by the key {fingerprint}"));
            lines
        },
    );
    Ok(())
}

/// What was signed.
struct Signed {
    what: String,
    digest: Option<String>,
    /// Signatures that were not there before.
    new: usize,
    file: Option<PathBuf>,
}

impl Signed {
    fn json(&self) -> Value {
        json!({"what": self.what, "digest": self.digest, "new": self.new, "file": self.file})
    }

    fn line(&self) -> String {
        let digest = self.digest.as_ref().map_or_else(String::new, |digest| format!("  {}", &digest[..19.min(digest.len())]));
        let done = match (&self.file, self.new) {
            (Some(file), _) => format!("signed: {}", file.display()),
            (None, 0) => "was signed already".to_owned(),
            (None, _) => "signed".to_owned(),
        };
        format!("{}{digest}  {done}", self.what)
    }
}

fn sign_remote(wanted: &Reference, arguments: &Arguments, key: &SigningKey, context: &Context<'_>) -> Result<Signed, Failure> {
    let remote = arguments.reach.open(context, &wanted.repository, Access::Write)?;
    let absent = || Failure::no(format!("there is no `{wanted}`")).hint("push it first, or name a tag that exists");
    let pick = wanted.pick.as_ref().ok_or_else(|| {
        Failure::project(format!("`{wanted}` does not say which image"))
            .hint("add a tag, or better a digest: what a tag stands for may change")
    })?;
    let image = remote.find(pick).map_err(from_repository)?.ok_or_else(absent)?;
    sign_image(&remote, &wanted.repository.to_string(), &image, key)
}

fn sign_image(place: &dyn WritableRepository, repository: &str, image: &Descriptor, key: &SigningKey) -> Result<Signed, Failure> {
    let new = sign(place, repository, image, key).map_err(from_sign)?;
    Ok(Signed { what: repository.to_owned(), digest: Some(image.digest.to_string()), new, file: None })
}

/// Says why an image was not signed.
pub fn from_sign(error: SignError) -> Failure {
    match error {
        SignError::Repository(error) | SignError::Simple(SimpleError::Repository(error)) => from_repository(error),
        error => Failure::world("the image cannot be signed").because(error),
    }
}

fn sign_path(
    path: &Path,
    name: Option<&str>,
    arguments: &Arguments,
    key: &SigningKey,
    context: &Context<'_>,
) -> Result<Vec<Signed>, Failure> {
    if let Handed::File(file) = layout::open(path).map_err(|error| from_layout(&error))? {
        let mut first = [0];
        let read = file
            .read_at(&mut first, 0)
            .map_err(|error| Failure::world(format!("cannot read `{}`", path.display())).because(error))?;
        if read == 1 && first == *b"{" {
            return sign_release(path, key).map(|signed| vec![signed]);
        }
    }
    places::change(path, |layout| sign_all(layout, name, arguments, key, context))
}

/// Signs the images of a layout or archive, or the one of this name.
fn sign_all(
    layout: &Layout<'_>,
    name: Option<&str>,
    arguments: &Arguments,
    key: &SigningKey,
    context: &Context<'_>,
) -> Result<Vec<Signed>, Failure> {
    let is_it = |image: &&ListedImage| name.is_none_or(|name| image.names.iter().any(|known| known == name));
    let images: Vec<&ListedImage> = layout.images().iter().filter(is_it).collect();
    if images.is_empty() {
        return Err(Failure::project(format!("`{}` holds no such image", layout.place()))
            .hint("`parvis build` makes images, `parvis save` an archive of them"));
    }
    if images.len() > 1 && arguments.repository.is_some() {
        return Err(
            Failure::project("one repository is named for several images").hint("pick one image with `:NAME` behind the path")
        );
    }
    let prefix = Workplace::open(context)
        .ok()
        .map(|workplace| workplace.project.registry.clone().unwrap_or_else(|| workplace.project.name.to_string()));
    let mut signed = Vec::new();
    for image in images {
        // An image that stands under several names is signed once for each repository.
        let mut repositories: Vec<String> = match &arguments.repository {
            Some(repository) => vec![repository.clone()],
            None => image.names.iter().filter_map(|name| repository_of(name, prefix.as_deref())).collect(),
        };
        repositories.sort();
        repositories.dedup();
        if repositories.is_empty() {
            return Err(Failure::project(format!("`{}` does not say of which repository its image is", layout.place()))
                .hint("say what it is with `--repository`"));
        }
        for repository in repositories {
            signed.push(sign_image(layout, &repository, &image.descriptor, key)?);
        }
    }
    Ok(signed)
}

/// Returns the repository of an image by the name under which a layout or archive lists it: without its tag, and below the
/// project's registry where the name is only that of a recipe. Other tools list images by their tags alone, which say nothing.
pub fn repository_of(name: &str, prefix: Option<&str>) -> Option<String> {
    if let Ok(reference) = name.parse::<Reference>() {
        return Some(reference.repository.to_string());
    }
    let untagged = name.rsplit_once(':').map_or(name, |(name, _)| name);
    if untagged.contains('/') {
        return Some(untagged.to_owned());
    }
    let is_image = untagged.parse::<ImageName>().is_ok() && untagged != "latest";
    is_image.then(|| prefix.map_or_else(|| untagged.to_owned(), |prefix| format!("{prefix}/{untagged}")))
}

/// Signs the statement on a release, and writes it beside.
fn sign_release(path: &Path, key: &SigningKey) -> Result<Signed, Failure> {
    let shown = path.display();
    let bytes = output::read_small(path, crate::image::canonical::LIMIT as u64).map_err(from_output)?;
    let bytes = bytes.ok_or_else(|| Failure::project(format!("`{shown}` is too large for the statement on a release")))?;
    let release = release::parse_unsigned(&bytes).map_err(|error| {
        Failure::project(format!("`{shown}` is neither an archive of images nor the statement on a release")).because(error)
    })?;
    let signed =
        release::sign(&release, key).map_err(|error| Failure::project(format!("`{shown}` cannot be signed")).because(error))?;
    let signed = signed.to_bytes().map_err(|error| Failure::bug("the statement cannot be written").because(error))?;
    let target = path.with_file_name(release::FILE);
    let before = output::read_small(&target, crate::trust::bundle::LIMIT as u64).map_err(from_output)?;
    let new = usize::from(before.as_ref() != Some(&signed));
    if new == 1 {
        output::write_whole(&target, |out| out.write_all(&signed)).map_err(from_output)?;
    }
    Ok(Signed { what: format!("{} {}", release.product, release.version), digest: None, new, file: Some(target) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_follows_from_the_name() {
        let prefix = Some("registry.example/parish");
        for (name, prefix, expected) in [
            ("httpd", prefix, Some("registry.example/parish/httpd")),
            ("httpd:1.4.0", prefix, Some("registry.example/parish/httpd")),
            ("httpd", None, Some("httpd")),
            ("civiparoisse/httpd:dev", prefix, Some("civiparoisse/httpd")),
            ("other.example:5000/a/httpd:1", prefix, Some("other.example:5000/a/httpd")),
            ("1.4.0", prefix, None),
            ("latest", prefix, None),
        ] {
            assert_eq!(repository_of(name, prefix).as_deref(), expected, "{name}");
        }
    }
}
