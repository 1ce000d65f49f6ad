//! Whether the console's alerts are those of Prometheus: each rule of `alerts.yml` is worked out, over
//! figures around all of its numbers, and the console must say the same.
//!
//! What is read of the language is what the rules use: comparisons, `and`, `or`, `unless`, arithmetic,
//! `time()`, and the most or the least of a while, which is the value of now.

use std::collections::BTreeSet;

use super::rules::RULES;
use super::trends::TRENDS;
use super::{Figures, firing};
use crate::ui::samples::Ring;

const THERE: &str = include_str!("../../../deploy/prometheus/alerts.yml");
const NOW: f64 = 1_700_000_000.0;

/// Alerts of Prometheus that the server does not judge, and why.
const UNJUDGED: &[(&str, &str)] = &[
    ("DaybookDown", "a server that is down shows nothing"),
    ("DaybookRestarts", "a server that was started knows none of the starts before"),
    ("DaybookCertificatesUnusable", "how a count grew within an hour, which is not kept"),
    ("DaybookAuthenticationFailures", "how a count grew within minutes, which is not kept"),
    ("DaybookSpareFailing", "how a count grew within minutes, which is not kept"),
    ("DaybookAppendErrors", "how two counts grew within minutes, which is not kept"),
    ("DaybookScavengeFails", "how a count grew within hours, which is not kept"),
    ("DaybookTransfersSlow", "the times of transfers are not sampled"),
    ("DaybookErrorBudgetFast", "shares of hours, which are not kept"),
    ("DaybookErrorBudgetSlow", "shares of days, which are not kept"),
];

struct There {
    name: String,
    severity: String,
    expr: String,
}

/// The rules of the file: each from its name to the next one.
fn there() -> Vec<There> {
    let blocks = THERE.split("- alert: ").skip(1);
    let one = |block: &str| {
        let (name, rest) = block.split_once('\n').expect("a line");
        let (_, expr) = rest.split_once("expr:").expect("an expression");
        let after = ["\n        for:", "\n        labels:"];
        let end = after.iter().filter_map(|key| expr.find(key)).min().expect("labels");
        let (_, severity) = rest.split_once("severity: ").expect("a severity");
        There {
            name: name.to_owned(),
            severity: severity.lines().next().expect("a line").to_owned(),
            expr: expr[..end].trim().trim_start_matches('|').to_owned(),
        }
    };
    blocks.map(one).collect()
}

#[test]
fn each_alert_is_judged_here_as_there_or_is_listed_with_the_reason() {
    let here: BTreeSet<(&str, &str)> = RULES
        .iter()
        .map(|rule| (rule.name, rule.severity.as_str()))
        .chain(TRENDS.iter().map(|trend| (trend.name, trend.severity.as_str())))
        .collect();
    let unjudged: BTreeSet<&str> = UNJUDGED.iter().map(|(name, _)| *name).collect();
    let there = there();
    for rule in &there {
        let is_here = here.contains(&(rule.name.as_str(), rule.severity.as_str()));
        let is_listed = unjudged.contains(rule.name.as_str());
        assert!(is_here != is_listed, "{} ({})", rule.name, rule.severity);
    }
    let names: BTreeSet<&str> = there.iter().map(|rule| rule.name.as_str()).collect();
    let known = here.iter().map(|(name, _)| *name).chain(unjudged.iter().copied());
    assert_eq!(names, known.collect::<BTreeSet<_>>());
}

#[test]
fn each_rule_fires_for_the_same_figures_as_there() {
    let there = there();
    let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    for name in names {
        let rule = there.iter().find(|rule| rule.name == name).expect("it is there");
        let tokens = tokens(&rule.expr);
        let (mut fired, mut silent) = (0, 0);
        for text in worlds(&tokens) {
            let figures = Figures::read(&text, NOW);
            let expected = !Reader { tokens: &tokens, at: 0, figures: &figures }.all().is_empty();
            let found = firing(&figures, &Ring::default()).iter().any(|alert| alert.name == name);
            assert_eq!(found, expected, "{name}: {text}");
            *(if found { &mut fired } else { &mut silent }) += 1;
        }
        assert!(fired > 0 && silent > 0, "{name} fires {fired} times of {}", fired + silent);
    }
}

// ------------------------------------------------------------------------ figures around the numbers

/// Texts of figures: all values of interest of each figure, with all of the others.
fn worlds(tokens: &[Token]) -> Vec<String> {
    let mut around = vec![0.0, 1.0, 4.0];
    for (i, token) in tokens.iter().enumerate() {
        let Token::Number(number) = token else { continue };
        // A product of numbers is one.
        let mut product = *number;
        around.push(product);
        let mut rest = &tokens[i + 1..];
        while let [Token::Word(word), Token::Number(next), more @ ..] = rest {
            if word != "*" {
                break;
            }
            product *= next;
            around.push(product);
            rest = more;
        }
    }
    let apart: Vec<f64> = around.iter().flat_map(|n| [n * 0.999, *n, n * 1.001]).collect();
    let times = apart.iter().chain(&[10.0, 29.0, 30.0, 31.0, 90.0]);
    let times: Vec<f64> = times.flat_map(|n| [NOW - n, NOW + n]).collect();
    let figures: BTreeSet<&str> = tokens.iter().filter_map(Token::figure).collect();
    let mut worlds = vec![format!("daybook_start_time_seconds {}\n", NOW - 1e6)];
    for figure in figures.into_iter().filter(|figure| *figure != "daybook_start_time_seconds") {
        let is_time = ["timestamp", "_after_", "_due_"].iter().any(|part| figure.contains(part));
        let mut values = if is_time { times.clone() } else { apart.clone() };
        // The end of all, and not a process without a limit: it has no such figure.
        if figure != "process_max_fds" {
            values.push(0.0);
        }
        values.retain(|value| figure != "process_max_fds" || *value > 0.0);
        let mut labels: Vec<String> = vec![String::new()];
        if let Some(states) = tokens.iter().find_map(|token| token.states(figure)) {
            labels = states.iter().map(|state| format!("{{state=\"{state}\"}}")).collect();
            labels.push("{state=\"else\"}".to_owned());
        }
        let lines = labels
            .iter()
            .flat_map(|label| values.iter().map(move |value| format!("{figure}{label} {value}\n")));
        let lines: BTreeSet<String> = lines.collect();
        worlds = worlds.iter().flat_map(|w| lines.iter().map(move |l| format!("{w}{l}"))).collect();
    }
    worlds
}

// ------------------------------------------------------------------------------------ the language

#[derive(Debug, PartialEq)]
enum Token {
    Number(f64),
    /// A name, an operator or a bracket.
    Word(String),
    /// What stands in braces, with them.
    Labels(String, Vec<String>),
}

impl Token {
    fn figure(&self) -> Option<&str> {
        match self {
            Token::Word(name) | Token::Labels(name, _) if is_figure(name) => Some(name),
            _ => None,
        }
    }

    fn states(&self, figure: &str) -> Option<&[String]> {
        match self {
            Token::Labels(name, states) if name == figure => Some(states),
            _ => None,
        }
    }
}

fn is_figure(name: &str) -> bool {
    name.starts_with("daybook_") || name.starts_with("process_")
}

fn tokens(expr: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expr.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let end = match first {
            '{' => rest.find('}').expect("it ends") + 1,
            '[' => rest.find(']').expect("it ends") + 1,
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            '>' | '<' | '=' | '!' => 1 + usize::from(rest[1..].starts_with('=')),
            _ => 1,
        };
        let (token, more) = rest.split_at(end);
        match (first, token.parse()) {
            ('[', _) => {}
            ('{', _) => {
                let Some(Token::Word(name)) = tokens.pop() else {
                    panic!("labels of what? {expr}")
                };
                let states = token.split('"').nth(1).expect("a value").split('|');
                tokens.push(Token::Labels(name, states.map(str::to_owned).collect()));
            }
            (_, Ok(number)) => tokens.push(Token::Number(number)),
            _ => tokens.push(Token::Word(token.to_owned())),
        }
        rest = more.trim_start();
    }
    tokens
}

type Series = Vec<(String, f64)>;

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    figures: &'a Figures,
}

/// Weakest first.
const OPERATORS: &[&[&str]] =
    &[&["or"], &["and", "unless"], &["==", "!=", ">", "<", ">=", "<="], &["+", "-"], &["*", "/"]];

impl Reader<'_> {
    fn all(mut self) -> Series {
        let (found, _) = self.level(0);
        assert_eq!(self.at, self.tokens.len(), "all of it is understood: {:?}", self.tokens);
        found
    }

    fn takes(&mut self, words: &[&str]) -> Option<String> {
        let Some(Token::Word(word)) = self.tokens.get(self.at) else { return None };
        if !words.contains(&word.as_str()) {
            return None;
        }
        self.at += 1;
        Some(word.clone())
    }

    /// A value, and whether it is a number without series.
    fn level(&mut self, level: usize) -> (Series, bool) {
        let Some(operators) = OPERATORS.get(level) else { return self.one() };
        let (mut left, mut is_number) = self.level(level + 1);
        while let Some(operator) = self.takes(operators) {
            let on = self.takes(&["on"]).is_some();
            if on {
                while self.takes(&[")"]).is_none() {
                    self.at += 1;
                }
            }
            let (right, right_is_number) = self.level(level + 1);
            left = joined(&operator, &left, is_number, &right, right_is_number, on);
            is_number &= right_is_number;
        }
        (left, is_number)
    }

    fn one(&mut self) -> (Series, bool) {
        let token = &self.tokens[self.at];
        self.at += 1;
        match token {
            Token::Number(number) => (vec![(String::new(), *number)], true),
            Token::Labels(name, states) => {
                let is_one =
                    |labels: &str| states.iter().any(|s| labels == format!("state=\"{s}\""));
                let all = self.figures.all(name).iter();
                (all.filter(|(labels, _)| is_one(labels)).cloned().collect(), false)
            }
            Token::Word(word) if word == "time" => {
                self.at += 2;
                (vec![(String::new(), self.figures.now)], true)
            }
            Token::Word(word) if word == "up" => (vec![(String::new(), 1.0)], false),
            Token::Word(word) if word == "(" => {
                let found = self.level(0);
                assert!(self.takes(&[")"]).is_some(), "a bracket ends: {:?}", self.tokens);
                found
            }
            Token::Word(word) if word == "max_over_time" || word == "min_over_time" => self.one(),
            Token::Word(word) => {
                assert!(is_figure(word), "{word}: {:?}", self.tokens);
                (self.figures.all(word).to_vec(), false)
            }
        }
    }
}

fn joined(
    operator: &str,
    left: &Series,
    left_is_number: bool,
    right: &Series,
    right_is_number: bool,
    on: bool,
) -> Series {
    let other = |labels: &str, series: &Series, is_number: bool| {
        series.iter().find(|(own, _)| is_number || on || own == labels).map(|(_, value)| *value)
    };
    let has = |labels: &str, series: &Series| other(labels, series, false).is_some();
    let all = left.iter().cloned();
    match operator {
        "and" => return all.filter(|(labels, _)| has(labels, right)).collect(),
        "unless" => return all.filter(|(labels, _)| !has(labels, right)).collect(),
        "or" => {
            let more = right.iter().filter(|(labels, _)| !has(labels, left)).cloned();
            return all.chain(more).collect();
        }
        _ => {}
    }
    // A number takes the series of what it is joined with.
    let labels = if left_is_number { right } else { left };
    let both = labels.iter().filter_map(|(labels, _)| {
        let a = other(labels, left, left_is_number)?;
        let b = other(labels, right, right_is_number)?;
        let worked_out = match operator {
            "+" => Some(a + b),
            "-" => Some(a - b),
            "*" => Some(a * b),
            "/" => Some(a / b),
            "==" => (a == b).then_some(a),
            "!=" => (a != b).then_some(a),
            ">" => (a > b).then_some(a),
            "<" => (a < b).then_some(a),
            ">=" => (a >= b).then_some(a),
            _ => (a <= b).then_some(a),
        };
        Some((labels.clone(), worked_out?))
    });
    both.collect()
}
