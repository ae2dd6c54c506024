//! A line chart as SVG: a few series over numbers that grow by factors. Written by hand, since it is all that is needed.

use crate::svg::{escaped, page, push, words};

/// A line of the chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it shows.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// What the chart says.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Below the axis that grows by factors.
    pub x: String,
    /// Above the other axis.
    pub y: String,
    /// How that one grows.
    pub scale: Scale,
    /// At most as many as there are colours.
    pub series: Vec<Series>,
}

/// How an axis grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0, by steps.
    BySteps,
    /// From a power of ten, by factors of ten.
    ByFactors,
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 260.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 6] = ["#c0392b", "#e08283", "#2471a3", "#229954", "#7d3c98", "#b7950b"];

impl Chart {
    /// The whole file, the same for the same numbers.
    pub fn svg(&self) -> String {
        let mut out = page((WIDTH, HEIGHT), (LEFT, 24.0), &self.title);
        words(&mut out, (LEFT, TOP - 14.0), "start", &escaped(&self.y));
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        words(&mut out, (middle, HEIGHT - 10.0), "middle", &escaped(&self.x));
        self.grid(&mut out);
        for (series, colour) in self.series.iter().zip(COLOURS) {
            self.line(&mut out, series, colour);
        }
        out.push_str("</svg>\n");
        out
    }

    fn grid(&self, out: &mut String) {
        for level in self.levels() {
            let y = self.height_of(level);
            let right = WIDTH - RIGHT;
            push(
                out,
                &format!("<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>"),
            );
            words(out, (LEFT - 8.0, y + 4.0), "end", &format!("{level}"));
        }
        let mut marks: Vec<f64> = self.points().map(|(x, _)| x).collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        for mark in marks {
            words(out, (self.place_of(mark), HEIGHT - BOTTOM + 18.0), "middle", &format!("{mark}"));
        }
    }

    fn line(&self, out: &mut String, series: &Series, colour: &str) {
        let at: Vec<(f64, f64)> =
            series.points.iter().map(|(x, y)| (self.place_of(*x), self.height_of(*y))).collect();
        let path: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        push(
            out,
            &format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            ),
        );
        for (x, y) in &at {
            push(out, &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"));
        }
        let place = self.series.iter().position(|other| other == series).unwrap_or_default();
        let place = u32::try_from(place).unwrap_or_default();
        let y = TOP + 18.0 * f64::from(place);
        let x = WIDTH - RIGHT + 14.0;
        push(
            out,
            &format!("<rect x=\"{x}\" y=\"{:.1}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>", y - 6.0),
        );
        words(out, (x + 18.0, y), "start", &escaped(&series.name));
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series.iter().flat_map(|series| series.points.iter().copied())
    }

    /// Where the lines behind it are.
    fn levels(&self) -> Vec<f64> {
        let (bottom, top) = (self.bottom(), self.top());
        let step = (top / 5.0).max(0.5).ceil();
        let next = |level: &f64| match self.scale {
            Scale::BySteps => Some(level + step),
            Scale::ByFactors => Some(level * 10.0),
        };
        // A power of ten is not exactly where its logarithm is.
        std::iter::successors(Some(bottom), next).take_while(|level| *level <= top * 1.000_001).collect()
    }

    fn top(&self) -> f64 {
        let most = self.points().map(|(_, y)| y).fold(f64::MIN_POSITIVE, f64::max);
        match self.scale {
            Scale::BySteps => most.max(1.0).ceil(),
            Scale::ByFactors => 10_f64.powf(most.log10().ceil()),
        }
    }

    fn bottom(&self) -> f64 {
        match self.scale {
            Scale::BySteps => 0.0,
            Scale::ByFactors => {
                10_f64.powf(self.points().map(|(_, y)| y.log10()).fold(0.0, f64::min).floor())
            }
        }
    }

    fn place_of(&self, x: f64) -> f64 {
        let first = self.points().map(|(x, _)| x).fold(f64::INFINITY, f64::min).ln();
        let last = self.points().map(|(x, _)| x).fold(1.0, f64::max).ln();
        let share = if last > first { (x.ln() - first) / (last - first) } else { 0.5 };
        LEFT + 20.0 + share * (WIDTH - LEFT - RIGHT - 40.0)
    }

    fn height_of(&self, y: f64) -> f64 {
        let share = match self.scale {
            Scale::BySteps => y / self.top(),
            Scale::ByFactors => (y / self.bottom()).log10() / (self.top() / self.bottom()).log10(),
        };
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }
}

#[cfg(test)]
mod tests {
    use super::{Chart, Scale, Series};

    fn svg(scale: Scale, points: Vec<(f64, f64)>) -> String {
        let series = vec![Series { name: "a < b".to_owned(), points }];
        Chart { title: "t".to_owned(), x: "x".to_owned(), y: "y".to_owned(), scale, series }.svg()
    }

    #[test]
    fn a_series_goes_from_left_to_right_and_up() {
        let svg = svg(Scale::BySteps, vec![(10.0, 1.0), (1000.0, 2.0)]);
        assert!(svg.contains("<polyline points=\"80.0,215.0 520.0,60.0\""), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"), "{svg}");
    }

    #[test]
    fn a_factor_is_as_high_wherever_it_is() {
        let svg = svg(Scale::ByFactors, vec![(10.0, 0.1), (100.0, 1.0), (1000.0, 10.0)]);
        assert!(svg.contains("<polyline points=\"80.0,370.0 300.0,215.0 520.0,60.0\""), "{svg}");
        assert_eq!(svg.matches("stroke=\"#ddd\"").count(), 3, "{svg}");
    }
}
