//! Reading a mapping field by field: what was not asked for is unknown.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::duration;
use crate::model::Template;
use crate::report::Report;
use crate::template::{self, TemplateError};
use crate::yaml::{Map, Node, Span};

/// A mapping that is being read.
///
/// When it is dropped, every key that nothing asked for is reported as
/// unknown; so a field that the code forgets cannot be ignored silently.
pub(crate) struct Fields<'a> {
    path: String,
    map: Option<&'a Map>,
    pub(crate) span: &'a Span,
    pub(crate) report: &'a Report,
    asked: RefCell<Vec<&'static str>>,
    open: bool,
    malformed: bool,
}

impl<'a> Fields<'a> {
    /// Starts reading `node`, which must be a mapping or empty.
    pub(crate) fn of(node: &'a Node, path: &str, report: &'a Report) -> Self {
        let malformed = node.as_map().is_none() && !node.is_null();
        if malformed {
            let message = format!("{} must be a mapping, not {}", title(path), node.describe());
            report.error(Diagnostic::at(&node.span, message));
        }
        Self {
            path: path.to_owned(),
            map: node.as_map(),
            span: &node.span,
            report,
            asked: RefCell::default(),
            open: false,
            malformed,
        }
    }

    /// Where this mapping lies, for example `build.artifacts[0]`.
    pub(crate) fn path(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.path)
        }
    }

    /// The node of a field; null counts as absent.
    pub(crate) fn node(&self, name: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().push(name);
        self.map?.get(name).filter(|node| !node.is_null())
    }

    /// The place of a field's key, or of the mapping.
    pub(crate) fn place(&self, name: &str) -> &'a Span {
        self.map
            .and_then(|map| map.key(name))
            .map_or(self.span, |key| &key.span)
    }

    /// Reports that a field has the wrong shape.
    fn wrong(&self, name: &str, expected: &str, node: &Node) {
        let message = format!(
            "`{}` must be {expected}, not {}",
            self.path(name),
            node.describe()
        );
        self.report.error(Diagnostic::at(&node.span, message));
    }

    /// Any scalar, as written.
    pub(crate) fn string(&self, name: &'static str) -> Option<String> {
        let node = self.node(name)?;
        let text = node.as_text();
        if text.is_none() {
            self.wrong(name, "a string", node);
        }
        text.map(str::to_owned)
    }

    /// A Go template; its syntax is checked here, where it has a place.
    pub(crate) fn template(&self, name: &'static str) -> Option<Template> {
        let template = Template(self.string(name).filter(|text| !text.is_empty())?);
        self.check_template(&template, &self.node(name)?.span);
        Some(template)
    }

    /// A list of Go templates.
    pub(crate) fn templates(&self, name: &'static str) -> Vec<Template> {
        let items = self.list(name).iter();
        let spans = items
            .filter(|item| item.as_text().is_some())
            .map(|item| &item.span);
        let templates: Vec<Template> = self.strings(name).into_iter().map(Template).collect();
        for (template, span) in templates.iter().zip(spans) {
            self.check_template(template, span);
        }
        templates
    }

    /// A mapping of Go templates; a null value is `None`.
    pub(crate) fn template_entries(
        &self,
        name: &'static str,
    ) -> BTreeMap<String, Option<Template>> {
        let map = self.node(name).and_then(Node::as_map);
        let mut templates = BTreeMap::new();
        for (key, text) in self.entries(name) {
            let template = text.map(Template);
            if let (Some(template), Some(node)) = (&template, map.and_then(|map| map.get(&key))) {
                self.check_template(template, &node.span);
            }
            templates.insert(key, template);
        }
        templates
    }

    fn check_template(&self, template: &Template, span: &Span) {
        if let Err(error) = template::check(template) {
            self.report.error(template_finding(&error, span));
        }
    }

    /// A string that is there and not empty.
    pub(crate) fn required(&self, name: &'static str) -> Option<String> {
        let missing = self.node(name).is_none();
        let text = self.string(name).filter(|text| !text.is_empty());
        if missing || (text.is_none() && self.node(name).is_some_and(|n| n.as_text() == Some(""))) {
            self.missing(name);
        }
        text
    }

    /// Reports that a field is missing; in what is no mapping, that has been
    /// said already.
    pub(crate) fn missing(&self, name: &str) {
        if self.malformed {
            return;
        }
        let message = format!("`{}` is required", self.path(name));
        self.report.error(Diagnostic::at(self.span, message));
    }

    /// Reports that none of several fields is there.
    pub(crate) fn missing_choice(&self, names: &[&str]) {
        let message = format!("`{}` needs one of {}", self.path, names.join(", "));
        self.report.error(Diagnostic::at(self.span, message));
    }

    /// A boolean.
    pub(crate) fn bool(&self, name: &'static str) -> Option<bool> {
        let node = self.node(name)?;
        let value = node.as_bool();
        if value.is_none() {
            self.wrong(name, "true or false", node);
        }
        value
    }

    /// A boolean that is false when absent.
    pub(crate) fn flag(&self, name: &'static str) -> bool {
        self.bool(name).unwrap_or(false)
    }

    /// An integer.
    pub(crate) fn integer(&self, name: &'static str) -> Option<i64> {
        let node = self.node(name)?;
        let value = node.to_value().as_i64();
        if value.is_none() {
            self.wrong(name, "an integer", node);
        }
        value
    }

    /// An integer that fits `T` and is not negative.
    pub(crate) fn count<T: TryFrom<i64>>(&self, name: &'static str) -> Option<T> {
        let value = self.integer(name)?;
        let converted = T::try_from(value).ok();
        if converted.is_none() {
            let message = format!("`{}` is out of range: {value}", self.path(name));
            self.report
                .error(Diagnostic::at(&self.node(name)?.span, message));
        }
        converted
    }

    /// A Go duration such as `20m`.
    pub(crate) fn duration(&self, name: &'static str) -> Option<Duration> {
        let text = self.string(name)?;
        let parsed = duration::parse(&text);
        if parsed.is_none() {
            let message = format!("`{}` is not a duration: `{text}`", self.path(name));
            let help = "write a number with a unit, for example 90s, 20m or 1h30m";
            self.report
                .error(Diagnostic::at(&self.node(name)?.span, message).help(help));
        }
        parsed
    }

    /// The items of a list.
    pub(crate) fn list(&self, name: &'static str) -> &'a [Node] {
        let Some(node) = self.node(name) else {
            return &[];
        };
        node.as_list().unwrap_or_else(|| {
            self.wrong(name, "a list", node);
            &[]
        })
    }

    /// The items of a list of scalars, as written.
    pub(crate) fn strings(&self, name: &'static str) -> Vec<String> {
        self.list(name)
            .iter()
            .enumerate()
            .filter_map(|(index, item)| {
                let text = item.as_text();
                if text.is_none() {
                    self.wrong(&format!("{name}[{index}]"), "a string", item);
                }
                text.map(str::to_owned)
            })
            .collect()
    }

    /// The items of a list of mappings.
    pub(crate) fn sections(&self, name: &'static str) -> impl Iterator<Item = Fields<'a>> {
        let (path, report) = (self.path(name), self.report);
        self.list(name)
            .iter()
            .enumerate()
            .map(move |(index, item)| Fields::of(item, &format!("{path}[{index}]"), report))
    }

    /// A mapping below this one; null counts as absent.
    pub(crate) fn section(&self, name: &'static str) -> Option<Fields<'a>> {
        let node = self.node(name)?;
        Some(Fields::of(node, &self.path(name), self.report))
    }

    /// The entries of a mapping whose keys are free and whose values are
    /// mappings.
    pub(crate) fn named_sections(
        &self,
        name: &'static str,
    ) -> impl Iterator<Item = (String, Fields<'a>)> {
        let (path, report) = (self.path(name), self.report);
        let node = self.node(name);
        if let Some(node) = node.filter(|node| node.as_map().is_none()) {
            self.wrong(name, "a mapping", node);
        }
        node.and_then(Node::as_map)
            .into_iter()
            .flat_map(Map::iter)
            .map(move |(key, value)| {
                (
                    key.name.clone(),
                    Fields::of(value, &format!("{path}.{}", key.name), report),
                )
            })
    }

    /// A mapping of scalars; a null value is `None`.
    pub(crate) fn entries(&self, name: &'static str) -> BTreeMap<String, Option<String>> {
        let Some(node) = self.node(name) else {
            return BTreeMap::new();
        };
        let Some(map) = node.as_map() else {
            self.wrong(name, "a mapping", node);
            return BTreeMap::new();
        };
        let mut entries = BTreeMap::new();
        for (key, value) in map.iter() {
            if value.as_text().is_none() && !value.is_null() {
                self.wrong(&format!("{name}.{}", key.name), "a string", value);
            }
            entries.insert(key.name.clone(), value.as_text().map(str::to_owned));
        }
        entries
    }

    /// A mapping of scalars, without those that have no value.
    pub(crate) fn map(&self, name: &'static str) -> BTreeMap<String, String> {
        let entries = self.entries(name);
        entries
            .into_iter()
            .map(|(key, value)| (key, value.unwrap_or_default()))
            .collect()
    }

    /// At most one of `names` may be there; which one is.
    pub(crate) fn one_of(&self, names: &[&'static str]) -> Option<&'static str> {
        let mut present = names.iter().filter(|name| self.node(name).is_some());
        let first = *present.next()?;
        if let Some(second) = present.next() {
            let message = format!(
                "`{}` and `{}` exclude each other",
                self.path(first),
                self.path(second)
            );
            self.report
                .error(Diagnostic::at(self.place(second), message).help("keep one of them"));
        }
        Some(first)
    }

    /// A field that the format knows and Kiln does not support. A written
    /// `false`, null, `[]` or `{}` asks for nothing and is let through.
    pub(crate) fn refuse(&self, name: &'static str, instead: &str) {
        if self.node(name).is_some_and(asks_for_something) {
            let message = format!("`{}` is not supported", self.path(name));
            self.report
                .refusal(Diagnostic::at(self.place(name), message).help(instead));
        }
    }

    /// A section that the format knows and Kiln does not support; it counts
    /// even when it is empty (`jib: {}` chooses a builder).
    pub(crate) fn refuse_section(&self, name: &'static str, instead: &str) {
        if self.node(name).is_some() {
            let message = format!("`{}` is not supported", self.path(name));
            self.report
                .refusal(Diagnostic::at(self.place(name), message).help(instead));
        }
    }

    /// Lets any further key through; for mappings whose keys are free.
    pub(crate) fn allow_more(&mut self) {
        self.open = true;
    }
}

impl Drop for Fields<'_> {
    fn drop(&mut self) {
        let (Some(map), false) = (self.map, self.open) else {
            return;
        };
        let asked = self.asked.borrow();
        for (key, _) in map.iter() {
            if asked.contains(&key.name.as_str()) {
                continue;
            }
            let place = if self.path.is_empty() {
                "the document"
            } else {
                &self.path
            };
            let message = format!("unknown field `{}` in {place}", key.name);
            let diagnostic = Diagnostic::at(&key.span, message);
            self.report
                .error(match did_you_mean(&key.name, asked.iter().copied()) {
                    Some(known) => diagnostic.help(format!("did you mean `{known}`?")),
                    None => diagnostic,
                });
        }
    }
}

/// A finding for a template that cannot be rendered.
pub(crate) fn template_finding(error: &TemplateError, span: &Span) -> Diagnostic {
    let finding = Diagnostic::at(span, error.to_string());
    match error {
        TemplateError::UnknownFunction {
            meant: Some(meant), ..
        } => finding.help(format!("did you mean `{meant}`?")),
        _ => match std::error::Error::source(error) {
            Some(cause) => finding.help(cause.to_string()),
            None => finding,
        },
    }
}

fn asks_for_something(node: &Node) -> bool {
    let empty = node.as_list().is_some_and(<[Node]>::is_empty)
        || node.as_map().is_some_and(Map::is_empty)
        || node.as_bool() == Some(false);
    !empty
}

fn title(path: &str) -> String {
    if path.is_empty() {
        "the document".to_owned()
    } else {
        format!("`{path}`")
    }
}
