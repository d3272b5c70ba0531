//! Charts in panels side by side. A panel has one line for each target: a bar with its range, or
//! dots.

use anyhow::anyhow;
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::report::number;

/// Sizes in pixels.
const PANEL_WIDTH: u32 = 480;
const LABEL_WIDTH: u32 = 215;
const LINE_HEIGHT: u32 = 26;
const PANEL_HEAD: u32 = 30;
const AXIS_HEIGHT: u32 = 34;
const TITLE_HEIGHT: u32 = 40;
const PANELS_IN_A_ROW: usize = 2;

const BACKGROUND: RGBColor = RGBColor(0xff, 0xff, 0xff);
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const FAINT: RGBColor = RGBColor(0xd0, 0xd7, 0xde);

/// A style sheet's rules have precedence over the attributes that the library writes.
const DARK: &str = "<style>@media (prefers-color-scheme: dark) {\
     [fill=\"#FFFFFF\"] { fill: #0d1117 } [fill=\"#1F2328\"] { fill: #e6edf3 } \
     [stroke=\"#1F2328\"] { stroke: #e6edf3 } [stroke=\"#D0D7DE\"] { stroke: #30363d } \
     }</style>";

/// A whole plot.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) scale: Scale,
    pub(crate) panels: Vec<Panel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    FromZero,
    /// The values are microseconds.
    Logarithmic,
}

/// One part of a plot. All panels of a plot have the same axis.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) lines: Vec<Line>,
}

/// One target's figures.
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) colour: Colour,
    /// Minimum, median and maximum, drawn as a bar.
    pub(crate) range: Option<[f64; 3]>,
    pub(crate) dots: Vec<f64>,
}

/// Middle tones, which are visible on light and on dark pages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    Gateway,
    Yardstick,
    Peer,
}

impl Colour {
    fn rgb(self) -> RGBColor {
        match self {
            Self::Gateway => RGBColor(0xd9, 0x77, 0x06),
            Self::Yardstick => RGBColor(0x8b, 0x94, 0x9e),
            Self::Peer => RGBColor(0x3b, 0x82, 0xc4),
        }
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Chart {
    /// Draws the plot as SVG.
    pub(crate) fn draw(&self) -> anyhow::Result<String> {
        let lines = self.panels.iter().map(|panel| panel.lines.len()).max().unwrap_or(0) as u32;
        let panel_height = PANEL_HEAD + lines * LINE_HEIGHT + AXIS_HEIGHT;
        let down = self.panels.len().div_ceil(PANELS_IN_A_ROW);
        let width = PANEL_WIDTH * PANELS_IN_A_ROW as u32;
        let mut svg = String::new();
        {
            let size = (width, TITLE_HEIGHT + down as u32 * panel_height);
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            self.draw_into(&root, down).map_err(|error| anyhow!("drawing a plot: {error}"))?;
        }
        let (head, rest) = svg.split_once("xmlns").ok_or_else(|| anyhow!("not an SVG"))?;
        let (attributes, rest) = rest.split_once('>').ok_or_else(|| anyhow!("not an SVG"))?;
        Ok(format!("{head}xmlns{attributes}>{DARK}{rest}"))
    }

    fn draw_into(&self, root: &Area<'_>, down: usize) -> Result<(), DrawError> {
        root.fill(&BACKGROUND)?;
        let (title, body) = root.split_vertically(TITLE_HEIGHT);
        title.draw(&Text::new(self.title.clone(), (12, 20), text(17, HPos::Left)))?;
        let extent = self.extent();
        for (area, panel) in body.split_evenly((down, PANELS_IN_A_ROW)).iter().zip(&self.panels) {
            panel.draw(area, self.scale, extent)?;
        }
        Ok(())
    }

    /// The range of the axis, with room for the figures beside the bars.
    fn extent(&self) -> (f64, f64) {
        let lines = || self.panels.iter().flat_map(|panel| &panel.lines);
        let values = || lines().flat_map(|line| line.range.iter().flatten().chain(&line.dots));
        let most = values().copied().fold(0.0, f64::max);
        match self.scale {
            Scale::FromZero => (0.0, if most > 0.0 { most * 1.25 } else { 1.0 }),
            Scale::Logarithmic => {
                let positive = values().copied().filter(|value| *value > 0.0);
                let least = positive.fold(most.max(1.0), f64::min);
                (least.log10().floor(), most.max(10.0).log10().ceil())
            }
        }
    }
}

impl Scale {
    /// The position of a value on the axis.
    fn at(self, value: f64) -> f64 {
        match self {
            Self::FromZero => value,
            Self::Logarithmic => value.max(1.0).log10(),
        }
    }

    /// The label at a position of the axis.
    fn label(self, at: f64) -> String {
        match self {
            Self::FromZero => number(at, 0),
            Self::Logarithmic if at.fract().abs() > 1e-9 => String::new(),
            Self::Logarithmic => match 10_f64.powf(at) {
                micros if micros < 999.0 => format!("{micros:.0} µs"),
                micros if micros < 999_999.0 => format!("{:.0} ms", micros / 1e3),
                micros => format!("{:.0} s", micros / 1e6),
            },
        }
    }
}

impl Panel {
    fn draw(&self, area: &Area<'_>, scale: Scale, (from, to): (f64, f64)) -> Result<(), DrawError> {
        area.draw(&Text::new(self.title.clone(), (12, 14), text(15, HPos::Left)))?;
        let count = self.lines.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .margin_top(PANEL_HEAD)
            .margin_right(34)
            .x_label_area_size(AXIS_HEIGHT)
            .y_label_area_size(LABEL_WIDTH)
            .build_cartesian_2d(from..to, count..0.0)?;
        let ticks = match scale {
            Scale::FromZero => 4,
            Scale::Logarithmic => (to - from) as usize + 1,
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(ticks)
            .x_label_formatter(&|at| scale.label(*at))
            .label_style(text(12, HPos::Center))
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(FAINT)
            .draw()?;
        for (place, line) in self.lines.iter().enumerate() {
            let y = place as f64 + 0.5;
            let label = Text::new(line.label.clone(), (-8, 0), text(13, HPos::Right));
            chart.draw_series([EmptyElement::at((from, y)) + label])?;
            let colour = line.colour.rgb();
            if let Some(range) = line.range {
                let [least, median, most] = range.map(|value| scale.at(value));
                let corners = [(from, y - 0.33), (median, y + 0.33)];
                chart.draw_series([Rectangle::new(corners, colour.filled())])?;
                chart.draw_series([PathElement::new([(least, y), (most, y)], INK)])?;
                let figure = number(range[1], if range[1] < 100.0 { 1 } else { 0 });
                let figure = Text::new(figure, (6, 0), text(12, HPos::Left));
                chart.draw_series([EmptyElement::at((most, y)) + figure])?;
            }
            let dots: Vec<_> = line.dots.iter().map(|dot| (scale.at(*dot), y)).collect();
            if dots.len() > 1 {
                chart.draw_series([PathElement::new(dots.clone(), colour.stroke_width(2))])?;
            }
            for (number, dot) in dots.into_iter().enumerate() {
                // A higher percentile gets a larger dot.
                chart.draw_series([Circle::new(dot, 3 + number as i32, colour.filled())])?;
            }
        }
        Ok(())
    }
}

type DrawError = Box<dyn std::error::Error>;

fn text(size: u32, across: HPos) -> TextStyle<'static> {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(&INK);
    style.pos(Pos::new(across, VPos::Center))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_its_lines_and_knows_dark_pages() {
        let line = |label: &str, range, dots| Line {
            label: label.into(),
            colour: Colour::Peer,
            range,
            dots,
        };
        for scale in [Scale::FromZero, Scale::Logarithmic] {
            let lines = vec![
                line("one & two", Some([90.0, 100.0, 110.0]), vec![]),
                line("three", None, vec![10.0, 200.0, 3_000.0]),
                line("nothing", Some([0.0; 3]), vec![0.0]),
            ];
            let panels = vec![Panel { title: "64 connections".into(), lines }];
            let svg = Chart { title: "A title".into(), scale, panels }.draw().unwrap();
            let axis = if scale == Scale::FromZero { "\n100\n" } else { "\n1 ms\n" };
            assert!(svg.contains(axis), "{svg}");
            for part in ["A title", "64 connections", "one &amp; two", "three", "prefers-color-"] {
                assert!(svg.contains(part), "{part}: {svg}");
            }
            assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        }
    }
}
