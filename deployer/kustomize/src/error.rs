//! Why a kustomization was refused.

use std::path::PathBuf;

use crate::filter::json_patch::JsonPatchError;
use crate::load::LoadError;
use crate::yaml::json::ValueError;
use crate::yaml::ops::PathError;
use crate::yaml::parse::SyntaxError;

/// Why a kustomization was refused. Most errors are an [`Error::At`] that
/// names file and field and has the problem as its source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of a kustomization leads to a problem.
    #[error("{}: {field}", .file.display())]
    At {
        /// The kustomization.
        file: PathBuf,
        /// The field, such as `patches[2].path`.
        field: String,
        /// The problem.
        source: Box<Error>,
    },
    /// A file has a problem.
    #[error("{}", .file.display())]
    InFile {
        /// The file.
        file: PathBuf,
        /// The problem.
        source: Box<Error>,
    },
    /// A part of a field has a problem.
    #[error("{field}")]
    Within {
        /// The part.
        field: String,
        /// The problem.
        source: Box<Error>,
    },
    /// A field of a resource has a problem.
    #[error("{field} of {resource}")]
    Field {
        /// The field.
        field: String,
        /// Kind and name.
        resource: String,
        /// The problem.
        source: Box<Error>,
    },
    /// Something that only kustomize itself can do.
    #[error("{what} need the kustomize program: install it, or leave them out")]
    NotNative {
        /// The feature.
        what: String,
    },
    /// A file cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A text is not YAML.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A path leads through something else than it expects.
    #[error(transparent)]
    Path(#[from] Wrong),
    /// A resource cannot be printed.
    #[error("{id} cannot be printed")]
    Value {
        /// The resource.
        id: String,
        /// Why.
        source: Wrong,
    },
    /// A resource has no hash.
    #[error("no hash can be made")]
    Hash {
        /// Why.
        source: Wrong,
    },
    /// A JSON patch is wrong or does not apply.
    #[error("JSON patch")]
    JsonPatch {
        /// Why.
        source: Wrong,
    },
    /// A field has a value of another type.
    #[error("`{field}` is {found}, and {expected} is expected")]
    Type {
        /// The field.
        field: String,
        /// What is expected.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A field that nobody knows.
    #[error("`{field}` is not a field that is known here")]
    UnknownField {
        /// The field.
        field: String,
    },
    /// The kustomization says nothing.
    #[error("the kustomization is empty")]
    EmptyKustomization,
    /// The kustomization is of another kind.
    #[error("kind is `{kind}`, and it has to be Kustomization or Component")]
    KustomizationKind {
        /// The kind.
        kind: String,
    },
    /// The kustomization is of another version.
    #[error("apiVersion is `{found}`, and it has to be {expected}")]
    KustomizationVersion {
        /// The version.
        found: String,
        /// What is understood.
        expected: &'static str,
    },
    /// A folder has no kustomization.
    #[error("{} has no kustomization.yaml, kustomization.yml or Kustomization", .folder.display())]
    NoKustomization {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder has more than one kustomization.
    #[error("{} has more than one kustomization file; keep one", .folder.display())]
    ManyKustomizations {
        /// The folder.
        folder: PathBuf,
    },
    /// A component is listed as a resource.
    #[error("{} is a component; list it under `components`", .folder.display())]
    IsComponent {
        /// The folder.
        folder: PathBuf,
    },
    /// Something else is listed as a component.
    #[error("{} is not a component; list it under `resources`", .folder.display())]
    NotComponent {
        /// The folder.
        folder: PathBuf,
    },
    /// Two resources with the same id.
    #[error("{id} is there already")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// A document has no kind.
    #[error("a resource{} has no kind", if .name.is_empty() { String::new() } else { format!(" `{}`", .name) })]
    NoKind {
        /// Its name.
        name: String,
    },
    /// A document has no name.
    #[error("a {kind} has no metadata.name")]
    NoName {
        /// Its kind.
        kind: String,
    },
    /// The items of a list are none.
    #[error("items of a {kind} are {found}, and a list is expected")]
    ListItems {
        /// The kind.
        kind: String,
        /// What they are.
        found: &'static str,
    },
    /// Something follows a document separator.
    #[error("line {line}: `{text}` is not a document separator")]
    Separator {
        /// Counted from one.
        line: usize,
        /// The line.
        text: String,
    },
    /// Nothing to merge with.
    #[error("{id} does not exist; it cannot be merged or replaced")]
    NothingToMerge {
        /// The id.
        id: String,
    },
    /// Too much to merge with.
    #[error("{id} is there more than once; it is not clear which one is meant")]
    ManyToMerge {
        /// The id.
        id: String,
    },
    /// Generated although it is there.
    #[error("{id} exists; set `behavior` to merge or replace")]
    GeneratedTwice {
        /// The id.
        id: String,
    },
    /// A patch finds nothing.
    #[error("no resource matches {id}")]
    NoTarget {
        /// The id.
        id: String,
    },
    /// A patch finds too much.
    #[error("more than one resource matches {id}")]
    ManyTargets {
        /// The id.
        id: String,
    },
    /// A patch says nothing, or twice.
    #[error("give either `path` or a patch, and not both")]
    PatchSource,
    /// A patch is empty.
    #[error("the patch is empty")]
    PatchEmpty,
    /// A patch is neither.
    #[error("it is neither a strategic merge patch ({strategic}) nor a JSON patch ({json})")]
    PatchUnreadable {
        /// Why it is not the one.
        strategic: String,
        /// Why it is not the other.
        json: String,
    },
    /// A patch is both.
    #[error("it could be a strategic merge patch and a JSON patch")]
    PatchAmbiguous,
    /// A JSON patch without target.
    #[error("a JSON patch needs a `target`")]
    PatchNoTarget,
    /// The target of a JSON patch has no name.
    #[error("`target` needs a name")]
    PatchNoTargetName,
    /// More than one patch for one target.
    #[error("with a `target`, a file may hold one strategic merge patch only")]
    PatchMany,
    /// `$patch` with an unknown word.
    #[error("`$patch: {text}` is not known; it may be merge, replace or delete")]
    Directive {
        /// The word.
        text: String,
    },
    /// Not a regular expression.
    #[error("`{pattern}` is not a regular expression")]
    Regex {
        /// The text.
        pattern: String,
    },
    /// Not a label selector.
    #[error("`{selector}` is not a label selector")]
    LabelSelector {
        /// The text.
        selector: String,
    },
    /// Replicas of nothing.
    #[error("no resource named {name} is one of {kinds}")]
    NoReplicas {
        /// The name.
        name: String,
        /// The kinds that have replicas.
        kinds: String,
    },
    /// A path with an empty part.
    #[error("a path has an empty part")]
    EmptyFieldName,
    /// Two places that disagree.
    #[error("the field spec for {path} contradicts another one about `create`")]
    FieldSpecConflict {
        /// The path.
        path: String,
    },
    /// Definitions that contain each other.
    #[error("the definition {name} is nested too deep")]
    CrdDepth {
        /// The definition.
        name: String,
    },
    /// A namespace moves a resource onto another one.
    #[error("the namespace makes two resources {id}")]
    NamespaceConflict {
        /// The id.
        id: String,
    },
    /// A word that is not known.
    #[error("`{text}` is not known; it may be {allowed}")]
    Choice {
        /// The word.
        text: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A reference that could mean several resources.
    #[error("the name could mean any of {ids}")]
    ManyReferrals {
        /// The ids.
        ids: String,
    },
    /// A reference without name.
    #[error("the mapping has no `name`")]
    NoNameField,
    /// A subject whose namespace is no text.
    #[error("a subject of {id} has a namespace that is not a string")]
    SubjectNamespace {
        /// The role binding.
        id: String,
    },
    /// A variable whose value cannot be read.
    #[error("`{text}` is not a number or boolean as its type says")]
    VariableType {
        /// The text.
        text: String,
    },
    /// A key that is no string.
    #[error("the key `{key}` is not a string")]
    VariableKey {
        /// The key.
        key: String,
    },
    /// A variable that is defined twice.
    #[error("the variable {name} is defined twice")]
    VariableTwice {
        /// The name.
        name: String,
    },
    /// A variable whose object is not clear.
    #[error("{count} resources match the variable {name}")]
    VariableMany {
        /// The name.
        name: String,
        /// How many.
        count: usize,
    },
    /// A variable whose object or field is not there.
    #[error("the variable {name} has no value: {missing} is not there")]
    VariableMissing {
        /// The name.
        name: String,
        /// What is not there.
        missing: String,
    },
    /// A replacement without source or target.
    #[error("a replacement needs `source` or `sourceValue`, and `targets`")]
    ReplacementIncomplete,
    /// A replacement with two sources.
    #[error("`source` and `sourceValue` exclude each other")]
    ReplacementTwoSources,
    /// A replacement in a file and in place.
    #[error("`path` and a replacement in place exclude each other")]
    ReplacementTwice,
    /// A source that selects nothing.
    #[error("nothing matches the source {selector}")]
    ReplacementNoSource {
        /// The selector.
        selector: String,
    },
    /// A source that selects too much.
    #[error("more than one resource matches the source {selector}")]
    ReplacementManySources {
        /// The selector.
        selector: String,
    },
    /// A source whose field is missing.
    #[error("{field} is not there in the source {source_id}")]
    ReplacementSourceField {
        /// The field.
        field: String,
        /// The source.
        source_id: String,
    },
    /// A target without selection.
    #[error("a target needs `select`")]
    ReplacementNoTarget,
    /// A target whose field is missing.
    #[error("{field} cannot be {verb} in a target")]
    ReplacementTargetField {
        /// The field.
        field: String,
        /// What was tried.
        verb: &'static str,
    },
    /// A delimiter for something that is no text.
    #[error("`delimiter` works on scalars only")]
    ReplacementDelimiter,
    /// An index that is too large.
    #[error("index {index} is out of bounds for `{value}`")]
    ReplacementIndex {
        /// The index.
        index: i64,
        /// The text that was split.
        value: String,
    },
    /// A generator without name.
    #[error("a generator needs a `name`")]
    GeneratorName,
    /// A literal that is none.
    #[error("`{literal}` has to be key=value")]
    Literal {
        /// The text.
        literal: String,
    },
    /// A file of a generator that is none.
    #[error("`{source_text}` has to be [key=]path: {problem}")]
    FileSource {
        /// The text.
        source_text: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A key that stands twice.
    #[error("{name} has the key `{key}` twice")]
    RepeatedKey {
        /// The generator.
        name: String,
        /// The key.
        key: String,
    },
    /// A line that is no text.
    #[error("{path}: line {line} is not UTF-8")]
    EnvNotText {
        /// The file.
        path: String,
        /// Counted from one.
        line: usize,
    },
    /// Two schemas.
    #[error("`openapi` may have `version` or `path`, and not both")]
    OpenApiTwice,
    /// A schema that is not built in.
    #[error("the OpenAPI version `{version}` is not built in; v1.21.2 is")]
    OpenApiVersion {
        /// The version.
        version: String,
    },
    /// A plugin that is not known.
    #[error("{kind} is not a builtin {role}")]
    UnknownPlugin {
        /// The kind.
        kind: String,
        /// Generator or transformer.
        role: &'static str,
    },
    /// A plugin whose settings are wrong.
    #[error("{problem}")]
    Plugin {
        /// What is wrong.
        problem: &'static str,
    },
    /// A validator that changes something.
    #[error("a validator must not change resources")]
    ValidatorChanges,
    /// An option of the command line.
    #[error("order is `{order}`, and it has to be legacy or fifo")]
    SortOrder {
        /// The order.
        order: String,
    },
    /// Options for another order.
    #[error("`legacySortOptions` belong to the order legacy")]
    SortOptions,
}

/// A problem inside of a document.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(transparent)]
pub struct Wrong(#[from] Inner);

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
enum Inner {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error(transparent)]
    JsonPatch(#[from] JsonPatchError),
}

macro_rules! wrong {
    ($($source:ty),*) => {
        $(impl From<$source> for Wrong {
            fn from(source: $source) -> Self {
                Self(source.into())
            }
        })*
    };
}

wrong!(PathError, ValueError, JsonPatchError);

impl From<PathError> for Error {
    fn from(source: PathError) -> Self {
        Self::Path(source.into())
    }
}

impl From<JsonPatchError> for Error {
    fn from(source: JsonPatchError) -> Self {
        Self::JsonPatch {
            source: source.into(),
        }
    }
}

impl Error {
    pub(crate) fn in_field(self, field: impl Into<String>) -> Self {
        Self::Within {
            field: field.into(),
            source: Box::new(self),
        }
    }

    /// The error and its sources in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    /// The feature that only the kustomize program has, if that is why.
    #[must_use]
    pub fn not_native(&self) -> Option<&str> {
        match self {
            Self::NotNative { what } => Some(what),
            Self::At { source, .. }
            | Self::InFile { source, .. }
            | Self::Within { source, .. }
            | Self::Field { source, .. } => source.not_native(),
            _ => None,
        }
    }
}
