//! How the story is told: to people line by line as it happens, to programs at its end.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment};
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use super::api::text;
use crate::cli::report::{colours, escaped, print, table};

/// How a step went, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Something was done.
    Done,
    /// Something was rightly refused.
    Refused,
    /// Something was begun and undone.
    Undone,
}

impl Mood {
    fn name(self) -> &'static str {
        match self {
            Mood::Done => "done",
            Mood::Refused => "refused",
            Mood::Undone => "undone",
        }
    }

    fn sign(self) -> String {
        let sign = match self {
            Mood::Done => "✓",
            Mood::Refused => "✗",
            Mood::Undone => "↺",
        };
        match (colours(), self) {
            (false, _) => sign.to_owned(),
            (true, Mood::Done) => sign.green().to_string(),
            (true, Mood::Refused) => sign.red().to_string(),
            (true, Mood::Undone) => sign.yellow().to_string(),
        }
    }
}

/// One step of the story.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// What was wanted.
    pub title: &'a str,
    /// How it went.
    pub mood: Mood,
    /// What came of it, in the server's terms.
    pub outcome: &'a str,
    /// What was asked.
    pub request: &'a str,
    /// The status that came back.
    pub status: u16,
    /// Where to look at it.
    pub look: &'a str,
}

/// Where the story is told.
#[derive(Debug)]
pub struct Stage {
    people: bool,
    url: String,
    told: Value,
    steps: usize,
}

impl Stage {
    /// A stage; whether people listen.
    #[must_use]
    pub fn new(people: bool) -> Stage {
        let told = json!({ "steps": [] });
        Stage { people, url: String::new(), told, steps: 0 }
    }

    /// All that was told.
    #[must_use]
    pub fn told(&self) -> &Value {
        &self.told
    }

    /// Begins.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(&mut self, version: &str, url: &str) -> anyhow::Result<()> {
        self.url = url.to_owned();
        self.told["url"] = url.into();
        self.told["version"] = version.into();
        self.say(&format!("\n{}\n{}\n\n", bold(&format!("Daybook {version}")), dim(url)))
    }

    /// Tells a step.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn step(&mut self, step: &Step<'_>) -> anyhow::Result<()> {
        self.steps += 1;
        let Step { title, mood, outcome, request, status, look } = *step;
        if let Some(steps) = self.told["steps"].as_array_mut() {
            steps.push(json!({
                "title": title,
                "went": mood.name(),
                "outcome": outcome,
                "request": request,
                "status": status,
                "look": look,
            }));
        }
        let text = format!(
            "{:>3}  {}\n     {} {}\n     {}\n     {}\n\n",
            self.steps,
            bold(title),
            mood.sign(),
            escaped(outcome),
            dim(&format!("{request} → {status}")),
            dim(&format!("curl {}{look}", self.url)),
        );
        self.say(&text)
    }

    /// Shows accounts: a name and what the API says of each.
    ///
    /// # Errors
    /// If something is missing, or cannot be written.
    pub fn accounts(&mut self, accounts: &[(&str, Value)]) -> anyhow::Result<()> {
        let mut table =
            table(&["who", "account", "status", "balance", "held", "available", "currency"]);
        for (name, account) in accounts {
            let amount = |member| {
                anyhow::Ok(Cell::new(text(account, member)?).set_alignment(CellAlignment::Right))
            };
            table.add_row([
                Cell::new(name),
                Cell::new(text(account, "account_type")?),
                Cell::new(text(account, "status")?),
                amount("balance")?,
                amount("held")?,
                amount("available")?,
                Cell::new(text(account, "currency")?),
            ]);
        }
        let accounts = accounts.iter().map(|(name, account)| {
            let mut account = account.clone();
            account["name"] = (*name).into();
            account
        });
        self.told["accounts"] = accounts.collect();
        self.say(&format!("{}\n{table}\n\n", bold("The accounts")))
    }

    /// Shows how a transfer went, step by step.
    ///
    /// # Errors
    /// If something is missing, or cannot be written.
    pub fn timeline(&mut self, transfer: &Value) -> anyhow::Result<()> {
        let steps = transfer["steps"].as_array().map_or(&[][..], Vec::as_slice);
        let mut lines = String::new();
        for step in steps {
            let at = text(step, "at")?;
            let direction = text(step, "direction")?;
            let outcome = text(step, "outcome")?;
            let reason =
                step["reason"].as_str().map_or(String::new(), |reason| format!(": {reason}"));
            let outcome = match (colours(), outcome) {
                (true, "completed") => outcome.green().to_string(),
                (true, _) => outcome.red().to_string(),
                (false, _) => outcome.to_owned(),
            };
            let _ = writeln!(
                lines,
                "     {}  {:<16} {direction:<13} {outcome}{}",
                dim(time_of(at)),
                text(step, "step")?,
                escaped(&reason)
            );
        }
        let state = text(transfer, "state")?;
        let reason = transfer["reason"].as_str().unwrap_or("no reason given");
        let title = bold("How the payment that was undone went");
        let end = format!("     {} {state}: {}", Mood::Undone.sign(), escaped(reason));
        self.told["compensated"] = transfer.clone();
        self.say(&format!("{title}\n{lines}{end}\n\n"))
    }

    /// Shows the trial balance, and whether it is balanced.
    ///
    /// # Errors
    /// If something is missing, or cannot be written.
    pub fn trial_balance(&mut self, books: &Value) -> anyhow::Result<()> {
        const CLASSES: [&str; 6] =
            ["customers", "cash", "clearing", "fees", "fx_position", "total"];
        let header: Vec<_> = std::iter::once("currency").chain(CLASSES).collect();
        let mut table = table(&header);
        for sums in books["currencies"].as_array().into_iter().flatten() {
            let mut row = vec![Cell::new(text(sums, "currency")?)];
            for class in CLASSES {
                row.push(Cell::new(text(sums, class)?).set_alignment(CellAlignment::Right));
            }
            table.add_row(row);
        }
        let position = &books["position"];
        let verified = &books["verified"];
        let (accounts, events) = (&verified["accounts"], &verified["events"]);
        let balanced =
            if colours() { "balanced".green().bold().to_string() } else { "balanced".to_owned() };
        self.told["trial_balance"] = books.clone();
        self.told["balanced"] = true.into();
        self.say(&format!(
            "{}\n{table}\n{balanced} at position {position}, and equal to a fold of {events} \
             events of {accounts} accounts\n\n",
            bold("The trial balance"),
        ))
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.people { print(text) } else { Ok(()) }
    }
}

/// What is said at the end.
#[must_use]
pub fn goodbye(own: bool) -> String {
    let text = if own {
        "This server and its data are gone now. To look around afterwards, run\n\n  daybook \
         serve\n  daybook demo --url http://127.0.0.1:2113\n"
    } else {
        "All of it is still there: follow the curl lines above.\n"
    };
    format!("{text}\n")
}

/// The time of day of an RFC 3339 time, to the microsecond.
fn time_of(at: &str) -> &str {
    let time = at.split_once('T').map_or(at, |(_, time)| time);
    time.get(..15).unwrap_or(time)
}

fn bold(text: &str) -> String {
    if colours() { text.bold().to_string() } else { text.to_owned() }
}

fn dim(text: &str) -> String {
    if colours() { text.dimmed().to_string() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_to_the_microsecond() {
        for (at, shown) in [
            ("2026-11-22T10:15:30.123456789Z", "10:15:30.123456"),
            ("2026-11-22T10:15:30Z", "10:15:30Z"),
            ("", ""),
        ] {
            assert_eq!(time_of(at), shown);
        }
    }

    #[test]
    fn programs_are_told_every_step() {
        let mut stage = Stage::new(false);
        stage.open("1.2.3", "http://h:1").expect("nobody listens");
        let step = Step {
            title: "Ada opens an account",
            mood: Mood::Done,
            outcome: "10.00 USD",
            request: "POST /v1/accounts",
            status: 201,
            look: "/v1/accounts/a",
        };
        stage.step(&step).expect("nobody listens");
        assert_eq!(stage.told()["steps"][0]["went"], "done");
        let books =
            json!({"position": 3, "currencies": [{"currency": "USD", "customers": "1.00"}]});
        let error = stage.trial_balance(&books).expect_err("not whole");
        assert!(error.to_string().contains("cash"), "{error}");
        assert_eq!(stage.told()["balanced"], Value::Null);
    }
}
