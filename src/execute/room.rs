//! A finished image as a place where commands run, in the sandbox and without Docker.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Site;
use super::trees::{Purpose, image_accounts, lower, read_path, start};
use crate::edge::sandbox::{Outcome, Program, Sandbox, Stream};
use crate::failure::Failure;
use crate::model::name::ImageName;
use crate::model::recipe::{ImageConfig, Parent};
use crate::model::tree::{Tree, TreePath};
use crate::plan::steps::{self, ImagePlan, Plan};

/// A command in an image.
#[derive(Debug, Clone, Default)]
pub struct RoomRequest {
    pub command: Vec<String>,
    /// In place of the image's user.
    pub user: Option<String>,
    /// In place of the image's folder.
    pub workdir: Option<String>,
    /// Beside the image's environment.
    pub env: BTreeMap<String, String>,
    pub stdin: Vec<u8>,
    pub timeout: Option<Duration>,
    /// Bytes that it may say on both streams together.
    pub output_limit: Option<u64>,
}

/// An image in a sandbox. What commands change there is gone when the room is left.
pub struct Room<'a> {
    site: &'a Site<'a>,
    image: ImageName,
    tree: Tree,
    config: ImageConfig,
    sandbox: Sandbox,
}

impl<'a> Room<'a> {
    /// Opens a built image.
    pub fn enter(site: &'a Site<'a>, plan: &Plan, image: &ImageName) -> Result<Self, Failure> {
        let not_built = || {
            Failure::no(format!("the image `{image}` is not built, or not as the recipes are now"))
                .hint(format!("run `parvis build {image}`"))
        };
        let tree = finished(site, plan, image)?.ok_or_else(not_built)?;
        let folders = lower(site, plan, image, &BTreeMap::new(), &tree)?;
        let sandbox = start(site, folders, &tree, image, Purpose::Room)?;
        let config = site.catalog.config(image);
        Ok(Self { site, image: image.clone(), tree, config, sandbox })
    }

    /// Runs a command as the image's user in the image's folder, and passes its output on.
    pub fn run(&mut self, request: &RoomRequest, output: &mut dyn FnMut(Stream, &[u8])) -> Result<Outcome, Failure> {
        let user = request.user.as_deref().or(self.config.user.as_deref());
        let Identity { uid, gid, groups, home } = run_as(self.site, &self.tree, user).map_err(|what| {
            Failure::project(format!("in the image `{}`, {what}", self.image)).hint("name a user of the image, or give a number")
        })?;
        let env = steps::environment(&self.config, &request.env, &home);
        let folder = request.workdir.as_deref().or(self.config.workdir.as_deref()).unwrap_or("/");
        let cwd = TreePath::parse(folder.as_bytes())
            .map_err(|error| Failure::project(error.to_string()).hint("give a folder of the image, such as `/tmp`"))?;
        let plain = Program::new(&request.command);
        let program = Program {
            env: environment(&env),
            cwd,
            uid,
            gid,
            groups,
            stdin: request.stdin.clone(),
            timeout: request.timeout.unwrap_or(plain.timeout),
            output_limit: request.output_limit.unwrap_or(plain.output_limit),
            ..plain
        };
        self.sandbox.run(&program, output).map_err(super::trees::from_sandbox)
    }

    /// Returns the command that the image runs when none is given.
    #[must_use]
    pub fn own_command(&self) -> Vec<String> {
        let parts = [&self.config.entrypoint, &self.config.cmd];
        parts.into_iter().flatten().flatten().cloned().collect()
    }

    /// Returns the image's tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns the content of a file of the image, as built.
    pub fn content(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        read_path(self.site, &self.tree, path)
    }

    /// Returns the ids of declared owners in this image.
    pub fn owners(&self, owners: &crate::model::recipe::Owners) -> Result<(u32, u32), Failure> {
        let accounts = image_accounts(self.site, &self.tree)?;
        accounts.resolve(owners).map_err(|error| Failure::project(format!("in the image `{}`, {error}", self.image)))
    }

    /// Leaves the image.
    pub fn leave(self) -> Result<(), Failure> {
        self.sandbox.finish().map_err(super::trees::from_sandbox)
    }
}

/// Returns an image's tree from the store, following parents that it adds nothing to.
pub fn finished(site: &Site<'_>, plan: &Plan, image: &ImageName) -> Result<Option<Tree>, Failure> {
    let step = plan.images.iter().find(|plan| plan.name == *image).and_then(ImagePlan::tree_step);
    match (step, site.catalog.recipe(image).map(|recipe| &recipe.from)) {
        (Some(step), _) => site.tree(&step.key),
        (None, Some(Parent::Recipe(parent))) => finished(site, plan, parent),
        (None, _) => Ok(Some(Tree::new())),
    }
}

/// Returns an environment as a program gets it: `NAME=value`.
pub fn environment(variables: &BTreeMap<String, String>) -> Vec<Vec<u8>> {
    variables.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect()
}

/// As whom a command runs.
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// Returns the ids of `USER`, `USER:GROUP` or numbers, as container engines read them: a user that the image knows brings
/// its own group and those it is a member of. Its home is that of the account, also where the user is a number, and `/` without one.
pub fn run_as(site: &Site<'_>, tree: &Tree, user: Option<&str>) -> Result<Identity, String> {
    let accounts = image_accounts(site, tree).map_err(|failure| failure.to_string())?;
    let home = |uid| accounts.home(uid).unwrap_or("/").to_owned();
    // An image without accounts has a root all the same.
    let root = || accounts.home(0).unwrap_or("/root").to_owned();
    let Some(user) = user else { return Ok(Identity { uid: 0, gid: 0, groups: Vec::new(), home: root() }) };
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let known = accounts.user(name);
    let (uid, own) = match (known, number(name)) {
        (Some(ids), _) => ids,
        (None, Some(uid)) => (uid, 0),
        (None, None) => return Err(format!("there is no user `{}`", name.escape_debug())),
    };
    let gid = match group {
        None => own,
        Some(group) => accounts
            .group(group)
            .or_else(|| number(group))
            .ok_or_else(|| format!("there is no group `{}`", group.escape_debug()))?,
    };
    let groups = if known.is_some() && group.is_none() { accounts.memberships(name) } else { Vec::new() };
    Ok(Identity { uid, gid, groups, home: if uid == 0 { root() } else { home(uid) } })
}
