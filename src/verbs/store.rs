//! `parvis store`: where the store is, whether it is sound, and what it need not keep.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::workplace::open_store;
use super::{Answer, Context};
use crate::edge::store::{Damage, Prune, Store};
use crate::execute::{forget_lost, from_store, references};
use crate::failure::Failure;
use crate::screen::{Unit, size};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the store's folder
    Path,
    /// Hash everything in the store again, and remove what is damaged
    Verify,
    /// Remove what no build has used for a while
    Prune {
        /// Keep what was used within this many days
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        days: u64,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    match &arguments.action {
        Action::Path => {
            context.answer(|| json!({ "path": context.store }), || vec![context.store.display().to_string()]);
            Ok(())
        }
        Action::Verify => verify(context),
        Action::Prune { days, dry_run } => prune(context, *days, *dry_run),
    }
}

fn verify(context: &Context<'_>) -> Answer {
    let store = open_store(context)?;
    let (mut report, lost) = {
        let task = context.screen.work("verify", None, Unit::Items);
        task.detail(&context.store.display().to_string());
        (store.verify().map_err(from_store)?, store.dangling(&mut references).map_err(from_store)?)
    };
    drop(store);
    if !report.damaged.is_empty() || !lost.is_empty() {
        forget_lost(&context.store, &lost)?;
    }
    let gone = "something that it refers to is gone".to_owned();
    report.damaged.extend(lost.iter().map(|item| Damage {
        path: context.store.join(item.path()),
        what: gone.clone(),
        removed: true,
    }));
    context.answer(
        || {
            let damaged = report.damaged.iter().map(|damage| json!({"path": damage.path, "what": damage.what, "removed": damage.removed}));
            json!({"checked": report.checked, "bytes": report.bytes, "damaged": damaged.collect::<Vec<_>>(), "foreign": report.foreign})
        },
        || {
            let mut lines: Vec<String> = report
                .damaged
                .iter()
                .map(|damage| format!("damaged: {}: {}{}", damage.path.display(), damage.what, if damage.removed { " (removed)" } else { "" }))
                .collect();
            lines.extend(report.foreign.iter().map(|path| format!("not parvis's: {}", path.display())));
            lines.push(format!("{} files checked, {}, {} damaged", report.checked, size(report.bytes), report.damaged.len()));
            lines
        },
    );
    match report.damaged.len() {
        0 => Ok(()),
        count => Err(Failure::no(format!("{count} damaged files were found in the store `{}`", context.store.display()))
            .hint("build again: what was removed is made or fetched anew; if it happens again, look at the disk")),
    }
}

fn prune(context: &Context<'_>, days: u64, dry_run: bool) -> Answer {
    let mut store = Store::open_alone(&context.store).map_err(from_store)?;
    let wish = Prune { unused_for: Duration::from_secs(days.saturating_mul(86_400)), keep: BTreeSet::new(), dry_run };
    let report = store.prune(&wish, &mut references).map_err(from_store)?;
    if !dry_run {
        store.remove_farms().map_err(from_store)?;
    }
    context.answer(
        || json!({"removed": report.removed, "removed_bytes": report.removed_bytes, "kept": report.kept, "kept_bytes": report.kept_bytes, "dry_run": dry_run}),
        || {
            let verb = if dry_run { "would be removed" } else { "removed" };
            vec![format!("{} files, {} {verb}; {} files, {} kept", report.removed, size(report.removed_bytes), report.kept, size(report.kept_bytes))]
        },
    );
    Ok(())
}
