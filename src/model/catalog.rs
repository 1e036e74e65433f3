//! The catalog: all recipes of a project, and the graph that their parents and copies make.

use std::collections::{BTreeMap, BTreeSet};

use super::name::ImageName;
use super::problem::{Problem, Source, nearest, shown};
use super::recipe::{ImageConfig, Parent, Recipe};

/// One recipe, with the file it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub recipe: Recipe,
    pub source: Source,
}

/// All recipes of a project: every parent exists, and none needs itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    members: BTreeMap<ImageName, Member>,
    /// Every image after those it needs; otherwise by name.
    order: Vec<ImageName>,
}

/// An image that the project does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the project has no image `{name}`")]
pub struct UnknownImage {
    name: String,
    known: Vec<ImageName>,
}

impl UnknownImage {
    /// Returns the likely name, or all there are.
    #[must_use]
    pub fn hint(&self) -> String {
        match nearest(&self.name, self.known.iter().map(ImageName::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.known.is_empty() => "add a file to `recipes/`".into(),
            None => {
                format!("the images are {}", self.known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Catalog {
    /// Reads recipe files, each with the image's name, and joins them.
    ///
    /// # Errors
    /// Returns the first problem of a file; then the first parent that is missing; then a cycle.
    pub fn parse(files: Vec<(ImageName, Source)>, variables: &BTreeMap<String, String>) -> Result<Self, Problem> {
        let mut members = BTreeMap::new();
        for (name, source) in files {
            let recipe = Recipe::parse(&name, &source.path, &source.text, variables)?;
            members.insert(name, Member { recipe, source });
        }
        Self::join(members)
    }

    fn join(members: BTreeMap<ImageName, Member>) -> Result<Self, Problem> {
        for member in members.values() {
            for (needed, line) in needs(&member.recipe) {
                if !members.contains_key(needed) {
                    let problem =
                        member.source.problem_at_word(line, needed.as_str(), format!("the project has no recipe `{needed}`"));
                    let others = members.keys().filter(|name| **name != member.recipe.name).map(ImageName::as_str);
                    let problem = problem.hint(format!("write it in `recipes/{needed}.yaml`"));
                    return Err(problem.did_you_mean(needed.as_str(), others));
                }
            }
        }
        let order = sort(&members)?;
        Ok(Self { members, order })
    }

    /// Returns an image by name.
    ///
    /// # Errors
    /// Says which names there are.
    pub fn get(&self, name: &str) -> Result<&Member, UnknownImage> {
        self.members.get(name).ok_or_else(|| UnknownImage { name: shown(name), known: self.members.keys().cloned().collect() })
    }

    /// Returns a recipe that the graph is known to have.
    #[must_use]
    pub fn recipe(&self, name: &ImageName) -> Option<&Recipe> {
        self.members.get(name).map(|member| &member.recipe)
    }

    /// Returns all images, every one after those it needs.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.order.iter().filter_map(|name| self.members.get(name))
    }

    /// Returns the number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns whether there is no image at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the images of these names and all that they need, in building order; all images where no name is given.
    ///
    /// # Errors
    /// Says which names there are, where one is unknown.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<&Recipe>, UnknownImage> {
        let mut wanted: BTreeSet<&ImageName> = BTreeSet::new();
        let mut open = Vec::new();
        for name in names {
            open.push(&self.get(name.as_ref())?.recipe);
        }
        while let Some(recipe) = open.pop() {
            if wanted.insert(&recipe.name) {
                open.extend(needs(recipe).filter_map(|(name, _)| self.recipe(name)));
            }
        }
        Ok(self.iter().map(|member| &member.recipe).filter(|recipe| names.is_empty() || wanted.contains(&recipe.name)).collect())
    }

    /// Returns the images that one needs before it, each once, by name: its parent, those it copies from, those it is made with.
    #[must_use]
    pub fn needs(&self, name: &ImageName) -> Vec<&ImageName> {
        let needed: BTreeSet<&ImageName> =
            self.recipe(name).into_iter().flat_map(|recipe| needs(recipe).map(|(name, _)| name)).collect();
        needed.into_iter().collect()
    }

    /// Returns an image and its parents, the one that starts from nothing first.
    #[must_use]
    pub fn lineage(&self, name: &ImageName) -> Vec<&Recipe> {
        let mut line = Vec::new();
        let mut next = self.recipe(name);
        while let Some(recipe) = next {
            line.push(recipe);
            next = recipe.parent().and_then(|parent| self.recipe(parent));
        }
        line.reverse();
        line
    }

    /// Returns an image's configuration with what it inherits.
    #[must_use]
    pub fn config(&self, name: &ImageName) -> ImageConfig {
        self.lineage(name).into_iter().fold(ImageConfig::default(), |inherited, recipe| inherited.inherit(&recipe.config))
    }
}

/// Returns what a recipe needs built before it, each with the line that says so.
fn needs(recipe: &Recipe) -> impl Iterator<Item = (&ImageName, u32)> {
    let parent = recipe.parent().map(|parent| (parent, recipe.from_line));
    let composer = recipe.composer.iter().flat_map(|rule| [(&rule.with, rule.with_line), (&rule.platform, rule.platform_line)]);
    parent.into_iter().chain(recipe.copies.iter().map(|copy| (&copy.from, copy.line))).chain(composer)
}

/// Orders the images so that each comes after those it needs.
fn sort(members: &BTreeMap<ImageName, Member>) -> Result<Vec<ImageName>, Problem> {
    let mut order: Vec<ImageName> = Vec::with_capacity(members.len());
    let mut done: BTreeSet<&ImageName> = BTreeSet::new();
    while order.len() < members.len() {
        let ready = members
            .iter()
            .find(|(name, member)| !done.contains(name) && needs(&member.recipe).all(|(needed, _)| done.contains(needed)));
        let Some((name, _)) = ready else { return Err(cycle(members, &done)) };
        done.insert(name);
        order.push(name.clone());
    }
    Ok(order)
}

/// Follows the needs of the first image that is not done until one comes again.
fn cycle(members: &BTreeMap<ImageName, Member>, done: &BTreeSet<&ImageName>) -> Problem {
    let open = |name: &ImageName| !done.contains(name);
    let next = |name: &ImageName| members.get(name).and_then(|member| needs(&member.recipe).find(|(needed, _)| open(needed)));
    let mut path: Vec<&ImageName> = members.keys().filter(|name| open(name)).take(1).collect();
    loop {
        let Some((needed, line)) = path.last().and_then(|last| next(last)) else {
            return Source::new("recipes", "").problem(1, 1, "the recipes need each other");
        };
        if let Some(start) = path.iter().position(|name| *name == needed) {
            let circle = &path[start..];
            let first = circle.iter().enumerate().min_by_key(|(_, name)| **name).map_or(0, |(index, _)| index);
            let names: Vec<&str> = circle.iter().cycle().skip(first).take(circle.len() + 1).map(|name| name.as_str()).collect();
            let message = format!("these images need each other: {}", names.join(" → "));
            let (source, line, needed) = members
                .get(names[0])
                .and_then(|member| next(&member.recipe.name).map(|(needed, line)| (&member.source, line, needed)))
                .unwrap_or((&members[path[path.len() - 1]].source, line, needed));
            return source.problem_at_word(line, needed.as_str(), message).hint("one of them must start from something else");
        }
        path.push(needed);
    }
}

impl Recipe {
    /// Returns the recipe that this one starts from.
    #[must_use]
    pub fn parent(&self) -> Option<&ImageName> {
        match &self.from {
            Parent::Scratch => None,
            Parent::Recipe(name) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(recipes: &[(&str, &str)]) -> Result<Catalog, Problem> {
        let file = |(name, rest): &(&str, &str)| {
            (name.parse().unwrap(), Source::new(&format!("recipes/{name}.yaml"), &format!("description: x\n{rest}\n")))
        };
        Catalog::parse(recipes.iter().map(file).collect(), &BTreeMap::new())
    }

    fn names(recipes: &[&Recipe]) -> Vec<String> {
        recipes.iter().map(|recipe| recipe.name.to_string()).collect()
    }

    const GRAPH: [(&str, &str); 5] = [
        ("httpd", "from: php\ncopy: [{from: app, path: /app}]"),
        ("php", "from: base"),
        ("base", "from: scratch"),
        ("app", "from: scratch"),
        ("db", "from: base"),
    ];

    #[test]
    fn every_image_comes_after_those_it_needs() {
        let catalog = catalog(&GRAPH).unwrap();
        assert_eq!(names(&catalog.select::<&str>(&[]).unwrap()), ["app", "base", "db", "php", "httpd"]);
    }

    #[test]
    fn selecting_an_image_brings_what_it_needs_and_no_more() {
        let catalog = catalog(&GRAPH).unwrap();
        assert_eq!(names(&catalog.select(&["httpd"]).unwrap()), ["app", "base", "php", "httpd"]);
        assert_eq!(names(&catalog.select(&["php", "base"]).unwrap()), ["base", "php"]);
        let error = catalog.select(&["htpd"]).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.hint().as_str()),
            ("the project has no image `htpd`", "did you mean `httpd`?")
        );
    }

    #[test]
    fn the_lineage_of_an_image_starts_from_nothing() {
        assert_eq!(names(&catalog(&GRAPH).unwrap().lineage(&"httpd".parse().unwrap())), ["base", "php", "httpd"]);
    }

    #[test]
    fn a_missing_parent_is_named_with_the_likely_one() {
        let problem = catalog(&[("base", "from: scratch"), ("php", "from: bse")]).unwrap_err();
        assert_eq!(problem.to_string(), "recipes/php.yaml:2:7: the project has no recipe `bse`");
        assert_eq!(problem.hint.as_deref(), Some("did you mean `base`?"));
        let problem = catalog(&[("base", "from: scratch\ncopy:\n  - {from: files, path: /app}")]).unwrap_err();
        assert_eq!(problem.to_string(), "recipes/base.yaml:4:12: the project has no recipe `files`");
        assert_eq!(problem.hint.as_deref(), Some("write it in `recipes/files.yaml`"));
    }

    #[test]
    fn a_cycle_is_printed_from_its_first_image_round() {
        let problem = catalog(&[("httpd", "from: base"), ("base", "from: httpd"), ("a", "from: base")]).unwrap_err();
        assert_eq!(problem.to_string(), "recipes/base.yaml:2:7: these images need each other: base → httpd → base");
        let problem = catalog(&[("base", "from: base")]).unwrap_err();
        assert_eq!(problem.message, "these images need each other: base → base");
    }

    #[test]
    fn a_cycle_through_a_copy_is_found() {
        let problem = catalog(&[("a", "from: scratch\ncopy: [{from: b, path: /x}]"), ("b", "from: a")]).unwrap_err();
        assert_eq!(problem.message, "these images need each other: a → b → a");
    }
}
