//! Dates of images: what is not decided anew is not dated anew.

use std::collections::BTreeMap;

use super::locking::parent;
use crate::model::catalog::Catalog;
use crate::model::lock::{Lock, LockedImage};
use crate::model::name::{Architecture, ImageName};
use crate::model::recipe::Recipe;

/// Gives images that are what they were the date that they had: those whose packages and PHP projects are the same, and which stand
/// on and take from images that are. So a fix gives a new digest to the images that it touches, and to no other.
///
/// To be called again when a lock's Composer projects were decided.
pub fn keep_dates(lock: &mut Lock, previous: &Lock, catalog: &Catalog) {
    let mut kept: BTreeMap<(ImageName, Architecture), i64> = BTreeMap::new();
    for member in catalog.iter() {
        for image in lock.images.iter().filter(|image| image.name == member.recipe.name) {
            let Some(before) = previous.image(&image.name, &image.architecture) else { continue };
            let there = |name: &ImageName| kept.contains_key(&(name.clone(), image.architecture.clone()));
            if is_same(previous, before, lock, image) && needs(&member.recipe).all(there) {
                kept.insert((image.name.clone(), image.architecture.clone()), previous.date(before));
            }
        }
    }
    for image in &mut lock.images {
        let date = kept.get(&(image.name.clone(), image.architecture.clone())).copied();
        image.date = date.filter(|date| *date != lock.epoch);
    }
}

/// Returns the images that one stands on or takes from.
///
/// Those in which Composer runs, or by which its platform is checked, leave nothing of theirs in the image: a fix in one of them has
/// the installation made again, and as long as that gives the same files, it is the same image.
fn needs(recipe: &Recipe) -> impl Iterator<Item = &ImageName> {
    parent(recipe).into_iter().chain(recipe.copies.iter().map(|copy| &copy.from))
}

/// Returns whether two locks decide the same of what is an image's own.
fn is_same(previous: &Lock, before: &LockedImage, lock: &Lock, image: &LockedImage) -> bool {
    let digest = |lock: &Lock, name| lock.package(name, &image.architecture).map(|package| package.sha256);
    (&before.from, &before.layers) == (&image.from, &image.layers)
        && image.packages().all(|name| digest(previous, name) == digest(lock, name))
        && previous
            .composer
            .iter()
            .filter(|locked| locked.image == image.name)
            .eq(lock.composer.iter().filter(|locked| locked.image == image.name))
}
