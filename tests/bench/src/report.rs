//! The comparison as a table, and as JSON.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Color, Table};
use serde_json::{Value, json};

use crate::load::{Measured, Scenario};

/// One line.
pub struct Row {
    /// What was measured.
    pub scenario: &'static Scenario,
    /// Daybook's.
    pub ours: Measured,
    /// UmaDB's, if this program was built with it.
    pub theirs: Option<Measured>,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.theirs.as_ref().map(|theirs| self.ours.rate() / theirs.rate())
    }
}

/// As a table.
pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    let columns = ["appends/s", "p50 ms", "p99 ms", "CPU us"];
    let mut header = vec!["measured".to_owned()];
    for peer in ["Daybook", "UmaDB"] {
        header.extend(columns.map(|column| format!("{peer} {column}")));
    }
    header.extend(["ratio".to_owned(), "goal".to_owned()]);
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    for row in rows {
        let mut cells = cells(Some(&row.ours));
        cells.extend(self::cells(row.theirs.as_ref()));
        let goal = row.scenario.goal;
        let ratio = row.ratio().map_or(Cell::new(""), |ratio| {
            let colour = if ratio >= goal { Color::Green } else { Color::Red };
            Cell::new(format!("{ratio:.2}")).fg(colour)
        });
        cells.extend([ratio, Cell::new(format!(">= {goal}"))]);
        let cells = cells.into_iter().map(|cell| cell.set_alignment(CellAlignment::Right));
        table.add_row(std::iter::once(Cell::new(row.scenario.name)).chain(cells));
    }
    format!("{table}\n")
}

fn cells(measured: Option<&Measured>) -> Vec<Cell> {
    let Some(measured) = measured else { return vec![Cell::new(""); 4] };
    let ms = |quantile| measured.latency_us.value_at_quantile(quantile) as f64 / 1000.0;
    vec![
        Cell::new(format!("{:.0}", measured.rate())),
        Cell::new(format!("{:.2}", ms(0.5))),
        Cell::new(format!("{:.2}", ms(0.99))),
        Cell::new(format!("{:.1}", measured.cpu_us_per_append())),
    ]
}

/// As JSON.
pub fn json(size: usize, seconds: f64, rows: &[Row]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.scenario.name,
                "clients": row.scenario.clients,
                "connections": row.scenario.connections,
                "events": row.scenario.events,
                "daybook": figures(&row.ours),
                "umadb": row.theirs.as_ref().map(figures),
                "ratio": row.ratio(),
                "goal": row.scenario.goal,
            })
        })
        .collect();
    json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "eventSize": size,
        "seconds": seconds,
        "rows": rows,
    })
}

fn figures(measured: &Measured) -> Value {
    let at = |quantile| measured.latency_us.value_at_quantile(quantile);
    json!({
        "appendsPerSecond": measured.rate(),
        "latencyUs": { "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999) },
        "cpuUs": measured.cpu_us_per_append(),
    })
}
