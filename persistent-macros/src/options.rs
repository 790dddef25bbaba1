//! The arguments of the attribute.

use std::{ops::RangeInclusive, time::Duration};

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Ident, Lit, LitBool, LitInt, LitStr, Path, Result, Token, Type, Visibility,
    ext::IdentExt,
    parenthesized,
    parse::{Parse, ParseStream, Parser},
};

use crate::errors::Errors;

const BACKOFF_MAX: Duration = Duration::from_secs(30);
const BACKOFF_FACTOR: f64 = 2.0;
const BACKOFF_JITTER: f64 = 0.0;
const SNAPSHOT_EVERY: u32 = 1000;

/// The name of each option, and its form as error messages show it.
const OPTIONS: [(&str, &str); 17] = [
    ("name", "`name = \"Player\"` or `name = T::NAME`"),
    ("version", "`version = 2`"),
    ("key", "`key = UserId`"),
    ("oldest", "`oldest = 2`"),
    ("restart", "`restart = temporary`, `restart = transient` or `restart = permanent`"),
    ("max_restarts", "`max_restarts(3, within = \"5s\")`"),
    ("retry_after", "`retry_after = \"1m\"` or `retry_after = never`"),
    ("backoff", "`backoff(min = \"100ms\", max = \"10s\", factor = 2.0, jitter = 0.1)`"),
    ("idle_timeout", "`idle_timeout = \"60s\"` or `idle_timeout = never`"),
    ("mailbox", "`mailbox = 1024`"),
    ("call_timeout", "`call_timeout = \"5s\"`"),
    ("persist", "`persist = every_message`, `persist = every(\"500ms\")` or `persist = on_stop`"),
    ("reminder_attempts", "`reminder_attempts = 10`"),
    ("await_commits", "`await_commits = true` or `await_commits = false`"),
    (
        "journal",
        "`journal = state`, `journal = messages` or `journal = messages(snapshot_every = 1000)`",
    ),
    ("vis", "`vis = pub(crate)`, `vis = pub(super)` or another visibility"),
    ("crate", "`crate = ::persistent_runtime`"),
];

/// The options that the attribute sets. An option that is not set here can be
/// set at run time.
#[derive(Default)]
pub(crate) struct Options {
    /// A string literal, or the path of a constant.
    pub(crate) name: Option<TokenStream>,
    pub(crate) version: Option<u32>,
    /// The type of the keys, if it is not `str`.
    pub(crate) key: Option<Type>,
    /// The literal of a valid `version`.
    pub(crate) version_literal: Option<LitInt>,
    /// The oldest version that is read.
    pub(crate) oldest: Option<u32>,
    /// A variant of `Restart`.
    pub(crate) restart: Option<Ident>,
    pub(crate) max_restarts: Option<(u32, Duration)>,
    pub(crate) retry_after: Option<TimeOrNever>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) idle_timeout: Option<TimeOrNever>,
    pub(crate) mailbox: Option<usize>,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) persist: Option<Persist>,
    pub(crate) reminder_attempts: Option<u32>,
    pub(crate) await_commits: Option<bool>,
    pub(crate) journal: Journal,
    /// The visibility of the generated types.
    pub(crate) vis: Option<Visibility>,
    /// The path of the runtime crate.
    pub(crate) runtime: Option<Path>,
}

pub(crate) enum TimeOrNever {
    Never,
    After(Duration),
}

pub(crate) enum Persist {
    EveryMessage,
    Every(Duration),
    OnStop,
}

#[derive(Default)]
pub(crate) enum Journal {
    #[default]
    State,
    Messages {
        snapshot_every: u32,
    },
}

pub(crate) struct Backoff {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    pub(crate) factor: f64,
    pub(crate) jitter: f64,
}

impl Options {
    pub(crate) fn parse(arguments: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
        let mut seen = Vec::new();
        for argument in split(arguments) {
            let parser = |input: ParseStream| -> Result<_> {
                Ok((input.call(Ident::parse_any)?, input.parse::<TokenStream>()?))
            };
            let Ok((name, value)) = parser.parse2(argument.clone()) else {
                errors.at(argument, format!("expected one of the options {}", known()));
                continue;
            };
            let Some((_, form)) = OPTIONS.iter().find(|(option, _)| name == option) else {
                errors.at(&name, unknown(&name.to_string()));
                continue;
            };
            if seen.contains(&name) {
                errors.at(&name, format!("duplicate option `{name}`"));
            } else if (|input: ParseStream| options.set(&name, input, errors))
                .parse2(value)
                .is_err()
            {
                errors.at(argument, format!("write {form}"));
            }
            seen.push(name);
        }
        options
    }

    /// Reads the tokens after `name`. Returns an error if their form is wrong. A
    /// value that breaks a rule is reported to `errors` instead, which
    /// underlines the value.
    fn set(&mut self, name: &Ident, input: ParseStream, errors: &mut Errors) -> Result<()> {
        match name.to_string().as_str() {
            "name" => {
                input.parse::<Token![=]>()?;
                self.name = if input.peek(LitStr) {
                    name_of(&input.parse()?, errors)
                } else {
                    Some(input.call(Path::parse_mod_style)?.into_token_stream())
                }
            }
            // An invalid version must not cause errors about migrations.
            "version" => {
                let literal = value(input)?;
                let version = at_least_one(&literal, errors);
                self.version_literal = version.is_some().then_some(literal);
                self.version = version.or(Some(u32::MAX));
            }
            "key" => self.key = Some(value(input)?),
            "oldest" => {
                self.oldest = at_least_one(&value(input)?, errors).or(Some(u32::MAX));
            }
            "restart" => self.restart = restart(&value(input)?, errors),
            "max_restarts" => self.max_restarts = max_restarts(input, errors)?,
            "backoff" => self.backoff = backoff(input, errors)?,
            "retry_after" => {
                let literal = value::<TokenTree>(&input.fork())?;
                self.retry_after = time_or_never(input, errors)?;
                if let Some(TimeOrNever::After(Duration::ZERO)) = self.retry_after {
                    errors.at(literal, "`retry_after` must be greater than zero");
                }
            }
            "idle_timeout" => self.idle_timeout = time_or_never(input, errors)?,
            "mailbox" => self.mailbox = at_least_one(&value(input)?, errors),
            "call_timeout" => {
                let literal = value(input)?;
                self.call_timeout = duration(&literal, errors);
                if self.call_timeout == Some(Duration::ZERO) {
                    errors.at(literal, "`call_timeout` must be greater than zero");
                }
            }
            "persist" => self.persist = persist(input, errors)?,
            "reminder_attempts" => self.reminder_attempts = at_least_one(&value(input)?, errors),
            "await_commits" => self.await_commits = Some(value::<LitBool>(input)?.value),
            "journal" => self.journal = journal(input, errors)?,
            "vis" => {
                input.parse::<Token![=]>()?;
                if input.is_empty() {
                    return Err(input.error("expected a visibility"));
                }
                self.vis = Some(input.parse()?);
            }
            "crate" => {
                input.parse::<Token![=]>()?;
                self.runtime = runtime(input.call(Path::parse_mod_style)?, errors);
            }
            _ => unreachable!("the option is in the table"),
        }
        Ok(())
    }
}

mod keyword {
    syn::custom_keyword!(never);
    syn::custom_keyword!(snapshot_every);
    syn::custom_keyword!(within);
}

fn value<T: Parse>(input: ParseStream) -> Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// Input: `= "60s"` or `= never`
fn time_or_never(input: ParseStream, errors: &mut Errors) -> Result<Option<TimeOrNever>> {
    input.parse::<Token![=]>()?;
    if input.peek(LitStr) {
        return Ok(duration(&input.parse()?, errors).map(TimeOrNever::After));
    }
    input.parse::<keyword::never>()?;
    Ok(Some(TimeOrNever::Never))
}

fn name_of(literal: &LitStr, errors: &mut Errors) -> Option<TokenStream> {
    if literal.value().is_empty() {
        errors.at(literal, "the stored name cannot be empty");
        return None;
    }
    Some(literal.into_token_stream())
}

fn at_least_one<N>(literal: &LitInt, errors: &mut Errors) -> Option<N>
where
    N: std::str::FromStr<Err: std::fmt::Display> + Default + PartialEq,
{
    match literal.base10_parse::<N>() {
        Ok(number) if number == N::default() => errors.at(literal, "must be at least 1"),
        Ok(number) => return Some(number),
        Err(error) => errors.push(error),
    }
    None
}

fn restart(policy: &Ident, errors: &mut Errors) -> Option<Ident> {
    let variant = match policy.to_string().as_str() {
        "temporary" => "Temporary",
        "transient" => "Transient",
        "permanent" => "Permanent",
        other => {
            let policies = ["temporary", "transient", "permanent"];
            let hint = did_you_mean(other, policies);
            errors.at(
                policy,
                format!("a restart policy is `temporary`, `transient` or `permanent`{hint}"),
            );
            return None;
        }
    };
    Some(Ident::new(variant, Span::call_site()))
}

/// Input: `= every_message`, `= every("500ms")` or `= on_stop`
fn persist(input: ParseStream, errors: &mut Errors) -> Result<Option<Persist>> {
    let level: Ident = value(input)?;
    Ok(match level.to_string().as_str() {
        "every_message" => Some(Persist::EveryMessage),
        "on_stop" => Some(Persist::OnStop),
        "every" => {
            let content;
            parenthesized!(content in input);
            let literal = content.parse()?;
            let period = duration(&literal, errors);
            if period == Some(Duration::ZERO) {
                errors.at(
                    literal,
                    "the period must be greater than zero; to commit each change at once, use \
                     `every_message`",
                );
            }
            period.map(Persist::Every)
        }
        other => {
            let hint = did_you_mean(other, ["every_message", "every", "on_stop"]);
            errors.at(
                &level,
                format!(
                    "a persist level is `every_message`, `every(\"500ms\")` or `on_stop`{hint}"
                ),
            );
            input.parse::<TokenStream>()?;
            None
        }
    })
}

/// Input: `= state`, `= messages` or `= messages(snapshot_every = 1000)`
fn journal(input: ParseStream, errors: &mut Errors) -> Result<Journal> {
    let what: Ident = value(input)?;
    Ok(match what.to_string().as_str() {
        "state" => Journal::State,
        "messages" if input.is_empty() => Journal::Messages { snapshot_every: SNAPSHOT_EVERY },
        "messages" => {
            let content;
            parenthesized!(content in input);
            content.parse::<keyword::snapshot_every>()?;
            let literal = value(&content)?;
            content.parse::<Option<Token![,]>>()?;
            content.is_empty().then_some(()).ok_or_else(|| content.error("unexpected"))?;
            let snapshot_every = at_least_one(&literal, errors).unwrap_or(SNAPSHOT_EVERY);
            Journal::Messages { snapshot_every }
        }
        other => {
            let hint = did_you_mean(other, ["state", "messages"]);
            errors.at(&what, format!("`journal` is `state` or `messages`{hint}"));
            input.parse::<TokenStream>()?;
            Journal::State
        }
    })
}

/// Input: `(3, within = "5s")`
fn max_restarts(input: ParseStream, errors: &mut Errors) -> Result<Option<(u32, Duration)>> {
    let content;
    parenthesized!(content in input);
    let count: LitInt = content.parse()?;
    content.parse::<Token![,]>()?;
    content.parse::<keyword::within>()?;
    let span = value(&content)?;
    let within = duration(&span, errors);
    if within == Some(Duration::ZERO) {
        errors.at(span, "`within` must be greater than zero");
    }
    content.parse::<Option<Token![,]>>()?;
    content.is_empty().then_some(()).ok_or_else(|| content.error("unexpected"))?;
    Ok(match count.base10_parse() {
        Ok(count) => within.map(|within| (count, within)),
        Err(error) => {
            errors.push(error);
            None
        }
    })
}

/// Input: `(min = "100ms", max = "10s", factor = 2.0, jitter = 0.1)`, in any order
fn backoff(input: ParseStream, errors: &mut Errors) -> Result<Option<Backoff>> {
    let (mut min, mut max, mut factor, mut jitter) = (None, None, None, None);
    let content;
    parenthesized!(content in input);
    while !content.is_empty() {
        let name: Ident = content.parse()?;
        match name.to_string().as_str() {
            "min" if min.is_none() => min = Some(value::<LitStr>(&content)?),
            "max" if max.is_none() => max = Some(value::<LitStr>(&content)?),
            "factor" if factor.is_none() => factor = Some(value::<Lit>(&content)?),
            "jitter" if jitter.is_none() => jitter = Some(value::<Lit>(&content)?),
            _ => return Err(content.error("not a field of `backoff`")),
        }
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    let shortest = min.ok_or_else(|| content.error("`min` is missing"))?;
    let min = duration(&shortest, errors);
    let max = max.map_or(Some(BACKOFF_MAX), |literal| duration(&literal, errors));
    let factor = factor.map_or(Some(BACKOFF_FACTOR), |literal| {
        let rule = "`factor` is a number of at least 1, e.g. `factor = 2.0`";
        number(&literal, 1.0..=f64::MAX, rule, errors)
    });
    let jitter = jitter.map_or(Some(BACKOFF_JITTER), |literal| {
        let rule = "`jitter` is a number from 0 to 1, e.g. `jitter = 0.1`";
        number(&literal, 0.0..=1.0, rule, errors)
    });
    let (Some(min), Some(max), Some(factor), Some(jitter)) = (min, max, factor, jitter) else {
        return Ok(None);
    };
    if min > max {
        let max = humantime::format_duration(max);
        errors.at(shortest, format!("`min` must not be greater than `max`, which is {max}"));
        return Ok(None);
    }
    Ok(Some(Backoff { min, max, factor, jitter }))
}

fn number(
    literal: &Lit,
    range: RangeInclusive<f64>,
    rule: &str,
    errors: &mut Errors,
) -> Option<f64> {
    let number = match literal {
        Lit::Int(literal) => literal.base10_parse().ok(),
        Lit::Float(literal) => literal.base10_parse().ok(),
        _ => None,
    };
    let number = number.filter(|number| range.contains(number));
    if number.is_none() {
        errors.at(literal, rule);
    }
    number
}

fn duration(literal: &LitStr, errors: &mut Errors) -> Option<Duration> {
    humantime::parse_duration(&literal.value())
        .map_err(|error| {
            errors.at(literal, format!("{error}; write a duration such as \"5s\" or \"1m 30s\""));
        })
        .ok()
}

/// Requires an absolute path, as generated code is resolved in the user's module.
fn runtime(path: Path, errors: &mut Errors) -> Option<Path> {
    let first = &path.segments.first()?.ident;
    if path.leading_colon.is_some() || first == "crate" || first == "$crate" {
        return Some(path);
    }
    let written = path.to_token_stream().to_string().replace(' ', "");
    errors
        .at(path, format!("the path must be absolute: write `::{written}` or `crate::{written}`"));
    None
}

/// Splits the arguments at their commas, so that an error in one does not hide
/// errors in the others. A comma in the angle brackets of a type separates nothing.
fn split(arguments: TokenStream) -> Vec<TokenStream> {
    let mut depth = 0;
    let is_separator = |tree: &TokenTree| {
        let TokenTree::Punct(punct) = tree else { return false };
        match punct.as_char() {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        punct.as_char() == ',' && depth == 0
    };
    arguments
        .into_iter()
        .collect::<Vec<_>>()
        .split(is_separator)
        .filter(|argument| !argument.is_empty())
        .map(|argument| argument.iter().cloned().collect())
        .collect()
}

fn unknown(name: &str) -> String {
    let hint = did_you_mean(name, OPTIONS.map(|(option, _)| option));
    let end = if hint.is_empty() { "; the" } else { " The" };
    format!("unknown option `{name}`{hint}{end} options are {}", known())
}

fn known() -> String {
    OPTIONS.map(|(option, _)| format!("`{option}`")).join(", ")
}

fn did_you_mean<const N: usize>(written: &str, known: [&str; N]) -> String {
    known
        .into_iter()
        .map(|candidate| (distance(written, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| distance * 3 <= candidate.len())
        .map_or_else(String::new, |(_, candidate)| format!(", did you mean `{candidate}`?"))
}

/// Returns the Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
