//! `parvis gate`: may the images be handed to others?

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde_json::{Value, json};

use super::workplace::{Planned, open_store};
use super::{Answer, Context};
use crate::edge::project::PROJECT_FILE;
use crate::execute::gates as facts;
use crate::failure::Failure;
use crate::model::language::{Language, both};
use crate::model::name::{ImageName, Suite};
use crate::model::project::Project;
use crate::plan::gates::{self, Gate, NOTICE_DAYS, Outcome, Verdict};

#[derive(Debug, clap::Args)]
#[command(after_help = "`parvis push` asks the same and sends nothing that is refused. What is allowed, and why, stands in \
    `parvis.yaml` under `gates:`.\n\
    Exit code: 0 where every image may be handed on, 1 where one may not, 2 where an image is unknown or not built.")]
pub struct Arguments {
    /// Images to look at (default: all)
    images: Vec<String>,
    /// Name also what is in order, and what `parvis.yaml` allows
    #[arg(long)]
    all: bool,
    /// Architecture of the images (default: this machine's, where the project has it)
    #[arg(long, value_name = "NAME")]
    platform: Option<String>,
}

/// An image with what the gates say of it.
type Judged = (ImageName, Vec<Verdict>);

pub fn run(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let store = open_store(context)?;
    let planned = Planned::make(context, &store, &arguments.images, arguments.platform.as_deref())?;
    let asked = |name: &ImageName| arguments.images.is_empty() || arguments.images.iter().any(|image| image == name.as_str());
    let names: Vec<ImageName> = planned.names.iter().filter(|name| asked(name)).cloned().collect();
    let judged = judge(context, &planned, &names)?;
    // What one image does not need another may.
    let idle = if arguments.images.is_empty() {
        let all: Vec<(&ImageName, &[Verdict])> = judged.iter().map(|(name, verdicts)| (name, &**verdicts)).collect();
        gates::idle(&planned.workplace.project.gates, &all)
    } else {
        Vec::new()
    };
    context.answer(
        || {
            let image = |(name, verdicts): &Judged| json!({"image": name, "passed": !is_refused(verdicts), "verdicts": verdicts});
            let idle =
                idle.iter().map(|(line, what)| json!({"file": PROJECT_FILE, "line": line, "what": what.trim_matches('`')}));
            json!({
                "format": 1,
                "platform": planned.plan.platform.as_str(),
                "images": judged.iter().map(image).collect::<Vec<Value>>(),
                "idle": idle.collect::<Vec<Value>>(),
            })
        },
        || {
            let mut lines = lines(&judged, arguments.all);
            for (line, what) in &idle {
                lines.push(format!("note: {PROJECT_FILE}:{line}: no image needs the exception for {what}: take it out"));
            }
            lines
        },
    );
    refuse(&judged)
}

/// Asks the gates before images are handed to others, and prints nothing where none refuses.
///
/// # Errors
/// Exit code 1 where an image may not be handed on: the first reason with its place, and how many more there are.
pub fn require(context: &Context<'_>, planned: &Planned<'_>, names: &[ImageName]) -> Answer {
    let judged = judge(context, planned, names)?;
    // What is to be said of all images alike is said once.
    let mut said = BTreeSet::new();
    for (name, verdicts) in &judged {
        for verdict in verdicts.iter().filter(|verdict| verdict.outcome == Outcome::Warned) {
            if said.insert((verdict.gate, &verdict.origin)) {
                context.screen.note(&format!("warning: `{name}`: {}", verdict.message));
            }
        }
    }
    refuse(&judged)
}

/// Asks all gates about built images of the project.
fn judge(context: &Context<'_>, planned: &Planned<'_>, names: &[ImageName]) -> Result<Vec<Judged>, Failure> {
    let (workplace, site) = (&planned.workplace, planned.site(context));
    let mut services: Vec<(ImageName, String)> = Vec::new();
    // The stacks of another profile run other images.
    for file in workplace.stacks()?.iter().filter(|file| workplace.fits(file)) {
        let (stack, _) = workplace.stack(&file.name)?;
        let of_stack = stack.services.iter().filter(|service| service.job.is_none());
        let reason = |name| format!("the stack `{}` runs it as the service `{name}`", file.name);
        services.extend(of_stack.map(|service| (service.image.clone(), reason(&service.name))));
    }
    let today = today(context.now)?;
    let mut judged = Vec::new();
    for name in names {
        let evidence = facts::evidence(&site, &planned.plan, name)?.ok_or_else(|| {
            Failure::project(format!("the image `{name}` is not built, or not as the recipes are now"))
                .hint(format!("run `parvis build {name}`"))
        })?;
        let service = services.iter().find(|(image, _)| image == name).map(|(_, reason)| reason.clone());
        let facts = evidence.facts(workplace.profile.as_deref(), service);
        let verdicts = gates::judge(&facts, &workplace.project, &workplace.catalog, today);
        judged.push((name.clone(), verdicts));
    }
    Ok(judged)
}

/// Refuses what rests on a suite that gets no security fixes any more, unless `past`, and tells half a year before.
pub fn support(
    project: &Project,
    suites: &[Suite],
    context: &Context<'_>,
    past: bool,
    ended: impl Fn(&str, &str) -> Failure,
) -> Answer {
    let today = today(context.now)?;
    for rule in project.suites.iter().filter(|rule| suites.contains(&rule.name)) {
        let Some((until, left)) = rule.support(today) else { continue };
        if left < 0 && !past && project.gates.overdue(&rule.name, today).is_none() {
            return Err(ended(rule.name.as_str(), &until.to_string()));
        }
        if left <= NOTICE_DAYS {
            context.screen.note(&support_ends(rule.name.as_str(), &until.to_string(), left, context.language));
        }
    }
    Ok(())
}

fn support_ends(suite: &str, until: &str, left: i64, language: Language) -> String {
    match left {
        0.. => both!(
            language,
            "`{suite}` gets security fixes until {until} ({left} days): plan the move to a newer version",
            "`{suite}` reçoit des correctifs jusqu’au {until} ({left} jours) : prévoyez le passage à une version plus récente"
        ),
        _ => both!(
            language,
            "`{suite}` got its last security fixes on {until}",
            "`{suite}` a reçu ses derniers correctifs le {until}"
        ),
    }
}

/// Returns the day, in UTC.
pub fn today(now: i64) -> Result<Date, Failure> {
    let instant = jiff::Timestamp::from_second(now);
    let instant = instant.map_err(|error| Failure::world("the clock of this machine shows no date").because(error))?;
    Ok(instant.to_zoned(jiff::tz::TimeZone::UTC).date())
}

fn is_refused(verdicts: &[Verdict]) -> bool {
    verdicts.iter().any(|verdict| verdict.outcome == Outcome::Refused)
}

/// Says no where a gate does.
fn refuse(judged: &[Judged]) -> Answer {
    let all = || {
        let all = judged.iter().flat_map(|(name, verdicts)| verdicts.iter().map(move |verdict| (name, verdict)));
        all.filter(|(_, verdict)| verdict.outcome == Outcome::Refused)
    };
    let Some((name, verdict)) = all().next() else { return Ok(()) };
    let more = match all().count() - 1 {
        0 => String::new(),
        1 => " (and 1 thing more: `parvis gate` names all)".to_owned(),
        more => format!(" (and {more} things more: `parvis gate` names all)"),
    };
    let message = format!("the image `{name}` may not be handed on: {}{more}", sentence(verdict));
    Err(Failure::no(message).maybe_hint(verdict.hint.clone()))
}

/// Returns what a verdict says with its place: `/usr/bin/su (package util-linux): mode 4755 …`.
fn sentence(verdict: &Verdict) -> String {
    let place = match (&verdict.path, &verdict.origin) {
        (Some(path), Some(origin)) => format!("`{path}` ({origin}): "),
        (Some(path), None) => format!("`{path}`: "),
        (None, Some(origin)) => format!("{origin}: "),
        (None, None) => String::new(),
    };
    format!("{place}{}", verdict.message)
}

fn lines(judged: &[Judged], all: bool) -> Vec<String> {
    let width = judged.iter().map(|(name, _)| name.as_str().len()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for (name, verdicts) in judged {
        let count = |outcome: Outcome| verdicts.iter().filter(|verdict| verdict.outcome == outcome).count();
        let word = if is_refused(verdicts) { "REFUSED" } else { "passed " };
        let mut about = Vec::new();
        for (outcome, word) in
            [(Outcome::Refused, "against it"), (Outcome::Warned, "to look after"), (Outcome::Allowed, "allowed")]
        {
            let number = count(outcome);
            if number > 0 {
                about.push(format!("{number} {word}"));
            }
        }
        lines.push(format!("{word}  {:<width$}  {}", name.as_str(), about.join(", ")).trim_end().to_owned());
        let named: Vec<&Verdict> =
            verdicts.iter().filter(|verdict| all || matches!(verdict.outcome, Outcome::Refused | Outcome::Warned)).collect();
        for (index, verdict) in named.iter().enumerate() {
            let mark = match verdict.outcome {
                Outcome::Passed => "ok",
                Outcome::Allowed => "allowed",
                Outcome::Warned => "warning",
                Outcome::Refused => "no",
            };
            lines.push(format!("  {mark:<8} {:<12} {}", verdict.gate.name(), sentence(verdict)));
            lines.extend(verdict.why.iter().map(|why| format!("{:24}why: {why}", "")));
            // One hint for all that it is for.
            let hint =
                verdict.hint.as_ref().filter(|hint| named.get(index + 1).is_none_or(|next| next.hint.as_ref() != Some(hint)));
            lines.extend(hint.map(|hint| format!("{:24}hint: {hint}", "")));
        }
    }
    let refused = judged.iter().filter(|(_, verdicts)| is_refused(verdicts)).count();
    let images = if judged.len() == 1 { "1 image".to_owned() } else { format!("{} images", judged.len()) };
    let gates = Gate::ALL.len();
    lines.push(match refused {
        0 => format!("{images} passed {gates} gates"),
        refused => format!("{images} before {gates} gates, {refused} refused"),
    });
    lines
}
