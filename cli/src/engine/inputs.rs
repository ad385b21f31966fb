//! Everything that decides what an image's bytes and the manifests are, read
//! at one moment: sources with their hashes, base digests, tags.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Zoned;
use kiln_builder::base_digests::BaseDigests;
use kiln_builder::cache::Records;
use kiln_builder::hooks::RunHook as _;
use kiln_builder::order::RenderTemplate;
use kiln_builder::placed::placed;
use kiln_builder::plan::{self, Plan, PlanError, Subject, Surroundings};
use kiln_builder::sources::{FileKind, HashCache, Request, Sources, find};
use kiln_builder::tag::content::BaseDigest;
use kiln_builder::tag::{GitBinary, input_digest, needs_input_digest};
use kiln_dockerfile::Dockerfile;
use kiln_dockerfile::platform::Platform;
use kiln_dockerfile::scope::BuildFor;
use kiln_schemas::event::{Event, Failure};
use kiln_schemas::image::BuiltImage;
use kiln_schemas::model::{Artifact, BuildArg, Module, Project, TagPolicy};

use super::Engine;
use super::bases::{Reach, base_images, sentinel};
use super::manifests::Manifests;
use super::onbuild::Onbuild;
use crate::dev::state::Key;
use crate::dev::watch::Batch;
use crate::error::{CommandError, Kind};

/// What is remembered between readings and between runs.
pub(super) struct Memory {
    pub records: Records,
    pub bases: BaseDigests,
    pub onbuild: Onbuild,
    hashes: HashCache,
    /// Bases that nobody could say anything about, neither this host nor the cluster.
    pub unanswered: BTreeSet<String>,
}

impl Memory {
    /// Starts with what the cache folder holds. Without a folder, or with
    /// files that are damaged, everything is found out again.
    pub fn load(folder: Option<&Path>, project: &Project) -> Self {
        let ttl = project
            .modules
            .iter()
            .map(|m| m.build.base_digest_ttl)
            .min()
            .unwrap_or_default();
        let file = |name: &str| folder.map(|folder| folder.join(name));
        Self {
            records: file("images.json")
                .and_then(|path| Records::load(&path).ok())
                .unwrap_or_else(Records::in_memory),
            bases: file("bases.json")
                .and_then(|path| BaseDigests::load(&path, ttl).ok())
                .unwrap_or_else(|| BaseDigests::in_memory(ttl)),
            onbuild: file("onbuild.json")
                .map_or_else(Onbuild::default, |path| Onbuild::load(&path)),
            // Without a folder: a path that cannot be written, so nothing is kept.
            hashes: HashCache::open(file("hashes").unwrap_or_else(|| "/proc/kiln-hashes".into())),
            unanswered: BTreeSet::new(),
        }
    }
}

/// One image's inputs.
#[derive(Debug)]
pub struct ImageInputs {
    /// The artifact's name.
    pub image: String,
    /// Names everything below.
    pub key: Key,
    /// Tag and key.
    pub plan: Plan,
    /// What the builder needs to know.
    pub subject: Subject,
    /// The files.
    pub sources: Sources,
    /// What is in each of them, by context-relative path.
    contents: BTreeMap<String, Content>,
    /// The Dockerfile, absolute.
    pub dockerfile: PathBuf,
    /// Where sources end up in the image, for file sync.
    pub placed: BTreeMap<String, PathBuf>,
    /// The image's working directory, as far as the Dockerfile says it.
    pub workdir: Option<PathBuf>,
    build: BuildFor,
    build_args: BTreeMap<String, String>,
}

impl ImageInputs {
    /// Context-relative paths that are new, gone or differ.
    pub fn changed_since(&self, before: &Self) -> Vec<String> {
        let (mut changed, deleted) = self.written_and_deleted(before);
        changed.extend(deleted);
        changed.sort();
        changed
    }

    /// Context-relative paths that are new or differ, and those that are gone.
    pub fn written_and_deleted(&self, before: &Self) -> (Vec<String>, Vec<String>) {
        let (old, new) = (&before.contents, &self.contents);
        let written = new
            .iter()
            .filter(|(path, content)| old.get(*path) != Some(content));
        let deleted = old.keys().filter(|path| !new.contains_key(*path));
        (
            written.map(|(path, _)| path.clone()).collect(),
            deleted.cloned().collect(),
        )
    }

    /// Whether nothing but files of the context differs.
    pub fn differs_in_files_alone(&self, now: &Self) -> bool {
        self.subject.dockerfile_text == now.subject.dockerfile_text
            && self.subject.artifact == now.subject.artifact
            && self.subject.bases == now.subject.bases
    }
}

/// The inputs of a project.
#[derive(Debug, Default)]
pub struct Inputs {
    /// By image; an error where they cannot be read.
    pub images: BTreeMap<String, Result<Arc<ImageInputs>, Failure>>,
    /// What rendering reads.
    pub manifests: Manifests,
    /// Folders to watch.
    pub folders: BTreeSet<PathBuf>,
    /// How many files were read.
    pub files: usize,
}

impl Inputs {
    /// Absolute paths whose bytes differ from an earlier reading.
    pub fn changed_since(&self, before: &Self) -> Vec<PathBuf> {
        let mut changed = BTreeSet::new();
        for (name, now) in &self.images {
            let (Ok(now), Some(Ok(old))) = (now, before.images.get(name)) else {
                continue;
            };
            if now.key == old.key {
                continue;
            }
            let context = &now.subject.artifact.context;
            changed.extend(now.changed_since(old).iter().map(|path| context.join(path)));
            if now.subject.dockerfile_text != old.subject.dockerfile_text {
                changed.insert(now.dockerfile.clone());
            }
        }
        changed.extend(self.manifests.changed_since(&before.manifests));
        changed.into_iter().collect()
    }

    /// What would be pushed, without digests; the first unreadable image is
    /// the error.
    pub fn references(&self) -> Result<Vec<BuiltImage>, CommandError> {
        self.images
            .iter()
            .map(|(name, inputs)| match inputs {
                Ok(inputs) => Ok(BuiltImage {
                    name: name.clone(),
                    reference: inputs.plan.reference.clone(),
                    digest: None,
                    placed: BTreeMap::new(),
                    workdir: None,
                }),
                Err(failure) => Err(CommandError {
                    kind: Kind::Build,
                    failures: vec![failure.clone()],
                }),
            })
            .collect()
    }
}

/// What decides the bytes of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// Hash and execute bits.
    File([u8; 32], u32),
    /// Target.
    Link(PathBuf),
}

/// An artifact whose Dockerfile was read.
struct Opened {
    path: PathBuf,
    text: Vec<u8>,
    dockerfile: Dockerfile,
    platform: Option<kiln_schemas::model::Platform>,
    build: BuildFor,
    build_args: BTreeMap<String, String>,
    bases: BTreeMap<String, BaseDigest>,
    sources: Sources,
}

/// One image's inputs before its tag is known.
#[derive(Clone)]
struct Reading {
    subject: Subject,
    sources: Sources,
    contents: BTreeMap<String, Content>,
    dockerfile: PathBuf,
    build: BuildFor,
    build_args: BTreeMap<String, String>,
}

type Readings = BTreeMap<String, Result<Reading, Failure>>;

impl Engine {
    /// Reads everything; with an earlier reading and what changed since, only
    /// the images that a change can concern.
    pub async fn scan(&self, before: Option<(&Inputs, &Batch)>) -> Inputs {
        let mut readings = Readings::new();
        let mut memory = self.memory.lock().await;
        for (name, _) in self.images() {
            let reading = match unconcerned(&name, before) {
                Some(same) => Ok(same.reading()),
                None => self.read_image(&name, &mut memory).await,
            };
            readings.insert(name, reading);
        }
        if let Err(error) = memory.hashes.save() {
            tracing::debug!(%error, "hashes are not remembered");
        }
        drop(memory);
        let mut inputs = Inputs::default();
        self.plan(readings, &mut inputs);
        inputs.manifests = match before {
            Some((earlier, batch)) if !earlier.manifests.concerned_by(batch) => {
                earlier.manifests.clone()
            }
            _ => self.manifests(before.map(|(earlier, _)| &earlier.manifests)),
        };
        inputs.files += inputs.manifests.files.len();
        inputs
            .folders
            .extend(inputs.manifests.folders.iter().cloned());
        inputs.folders.extend(self.configuration_folders());
        inputs
    }

    /// The sources of one image, for `kiln context`, which starts no pod.
    pub async fn sources(&self, image: &str) -> Result<Sources, Failure> {
        let (module, artifact) = self.artifact(image)?;
        let mut memory = self.memory.lock().await;
        let opened = self
            .open(module, artifact, &mut memory, Reach::Host)
            .await?;
        Ok(opened.sources)
    }

    fn artifact(&self, name: &str) -> Result<(&Module, &Artifact), Failure> {
        let unknown = || Failure::new(format!("{name} is not an artifact of this project"));
        self.project.artifact(name).ok_or_else(unknown)
    }

    async fn read_image(&self, name: &str, memory: &mut Memory) -> Result<Reading, Failure> {
        let (module, artifact) = self.artifact(name)?;
        self.make_outputs(module, artifact).await?;
        // A build on this machine reaches what this machine reaches.
        let reach = match self.local {
            Some(_) => Reach::Host,
            None => Reach::Cluster,
        };
        let opened = self.open(module, artifact, memory, reach).await?;
        let repository = self.repository(name).await.map_err(|error| {
            let first = error.failures.into_iter().next();
            first.unwrap_or_else(|| Failure::new("there is no registry"))
        })?;
        let hashes = &mut memory.hashes;
        let digest = tokio::task::block_in_place(|| opened.sources.digest(hashes));
        let digest = digest.map_err(|error| Failure::from_error(&error))?;
        let contents = contents(&opened.sources, hashes)?;
        let run_mode = (
            "SKAFFOLD_RUN_MODE".to_owned(),
            self.choices.command.to_owned(),
        );
        let subject = Subject {
            repository,
            policy: module.build.tags.clone(),
            fixed_tag: self.choices.tag.clone(),
            sources: digest.to_vec(),
            input_digest: needs_input_digest(&module.build.tags)
                .then(|| skaffold_digest(&opened.sources))
                .transpose()?,
            context: artifact.context.clone(),
            dockerfile_text: opened.text,
            dockerfile: Arc::new(opened.dockerfile),
            bases: opened.bases,
            platform: opened.platform,
            insecure_registries: module.build.insecure_registries.clone(),
            provided_args: [run_mode].into(),
            artifact: Arc::new(artifact.clone()),
        };
        Ok(Reading {
            subject,
            sources: opened.sources,
            contents,
            dockerfile: opened.path,
            build: opened.build,
            build_args: opened.build_args,
        })
    }

    /// Runs the hooks before the build whose outputs are not up to date: they make files that
    /// the image is built from.
    async fn make_outputs(&self, module: &Module, artifact: &Artifact) -> Result<(), Failure> {
        let hooks = artifact.hooks.before.iter();
        for hook in hooks.filter(|hook| !hook.outputs.is_empty()) {
            let here = hook.os.is_empty() || hook.os.iter().any(|os| os == std::env::consts::OS);
            if !here || super::hooks::is_up_to_date(hook) {
                continue;
            }
            let env = kiln_builder::hooks::build_env(&artifact.image, &artifact.context);
            let result = self.hook_runner(module).run(hook, &env).await;
            result.map_err(|reason| {
                let command = hook.command.join(" ");
                let mut failure = Failure::new(format!(
                    "hook `{command}` before the build of {} failed",
                    artifact.image
                ));
                failure.causes.push(reason);
                failure
            })?;
        }
        Ok(())
    }

    /// Reads the Dockerfile, looks its bases up and finds the sources.
    async fn open(
        &self,
        module: &Module,
        artifact: &Artifact,
        memory: &mut Memory,
        reach: Reach,
    ) -> Result<Opened, Failure> {
        let path = dockerfile_path(artifact);
        let text = self.dockerfile_text(&path)?;
        let dockerfile = self.parse(&path, &text)?;
        let platform = self.platform(module, artifact)?;
        let build = build_for(artifact, platform.as_ref());
        let build_args = self.plain_args(artifact);
        let names = base_images(&dockerfile, &build, &build_args)?;
        let inside = (reach == Reach::Cluster).then_some((module, artifact));
        let bases = self.look_up_bases(names, inside, memory).await;
        let request = Request {
            context: &artifact.context,
            dockerfile_path: &path,
            dockerfile: &dockerfile,
            build_args: &build_args,
            build: &build,
            pod_context: kiln_builder::cluster::CONTEXT_MOUNT,
        };
        let onbuild = |base: &str| self.onbuild(base, &bases, &memory.onbuild);
        let sources =
            tokio::task::block_in_place(|| find(&request, &onbuild)).map_err(|error| {
                let mut failure = Failure::from_error(&error);
                failure.message = format!("{}: {}", self.shown(&path), failure.message);
                failure.hints.extend(error.hint().map(str::to_owned));
                failure
            })?;
        Ok(Opened {
            path,
            text,
            dockerfile,
            platform,
            build,
            build_args,
            bases,
            sources,
        })
    }

    pub(super) fn dockerfile_text(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        std::fs::read(path).map_err(|error| {
            let mut failure = Failure::new(format!("cannot read {}", self.shown(path)));
            failure.causes.push(error.to_string());
            failure
        })
    }

    pub(super) fn parse(&self, path: &Path, text: &[u8]) -> Result<Dockerfile, Failure> {
        let shown = self.shown(path);
        let text =
            std::str::from_utf8(text).map_err(|_| Failure::new(format!("{shown} is not UTF-8")))?;
        kiln_dockerfile::parse(text).map_err(|error| {
            Failure::new(format!(
                "{shown}:{}:{}: {}",
                error.line(),
                error.column(),
                error.message()
            ))
        })
    }

    /// The platform, where one is decided. Several at once are no one image.
    fn platform(
        &self,
        module: &Module,
        artifact: &Artifact,
    ) -> Result<Option<kiln_schemas::model::Platform>, Failure> {
        let lists = [
            &self.choices.platforms,
            &artifact.platforms,
            &module.build.platforms,
        ];
        match lists
            .into_iter()
            .find(|list| !list.is_empty())
            .map(Vec::as_slice)
        {
            Some([first, second, ..]) => {
                let message = format!(
                    "{} is to be built for {first} and {second} at once",
                    artifact.image
                );
                Err(Failure::new(message)
                    .hint("build for one platform at a time: --platform=os/arch"))
            }
            Some([only]) => Ok(Some(only.clone())),
            _ => Ok(None),
        }
    }

    /// Keys and references; fills in what every image became.
    fn plan(&self, mut readings: Readings, inputs: &mut Inputs) {
        let mut plans = self.plans(&readings);
        if self.tag_by_content(&plans, &mut readings) {
            plans = self.plans(&readings);
        }
        for (image, reading) in readings {
            if let Some((_, artifact)) = self.project.artifact(&image) {
                // Watched even while nothing of it can be read.
                inputs.folders.insert(artifact.context.clone());
                inputs
                    .folders
                    .extend(dockerfile_path(artifact).parent().map(Path::to_owned));
                for hook in &artifact.hooks.before {
                    inputs.folders.extend(super::hooks::input_folders(hook));
                }
            }
            let planned = reading.and_then(|reading| {
                let plan = match plans.remove(&image) {
                    Some(Ok(plan)) => plan,
                    Some(Err(error)) => return Err(Failure::from_error(&error)),
                    None => return Err(Failure::new("an image that it requires cannot be read")),
                };
                inputs.files += reading.contents.len();
                inputs.folders.extend(folders(&reading.sources));
                Ok(Arc::new(reading.planned(image.clone(), plan)))
            });
            inputs.images.insert(image, planned);
        }
    }

    fn plans(&self, readings: &Readings) -> BTreeMap<String, Result<Plan, PlanError>> {
        let now = Zoned::now();
        let engine = self.templates();
        let surroundings = Surroundings {
            now: &now,
            git: &GitBinary,
            engine: &engine,
        };
        let subjects = readings
            .iter()
            .filter_map(|(name, reading)| {
                Some((name.clone(), reading.as_ref().ok()?.subject.clone()))
            })
            .collect();
        plan::plan(&self.graph, &subjects, &surroundings)
    }

    /// Where git gives no tag (no repository, no commit, no git) images are
    /// tagged by their content, which says so; skaffold takes `latest` there
    /// without a word. Returns whether that is the case for any image.
    fn tag_by_content(
        &self,
        plans: &BTreeMap<String, Result<Plan, PlanError>>,
        readings: &mut Readings,
    ) -> bool {
        let mut any = false;
        for (image, plan) in plans {
            let (Err(PlanError::Tag(error)), Some(Ok(reading))) = (plan, readings.get_mut(image))
            else {
                continue;
            };
            if matches!(reading.subject.policy, TagPolicy::GitCommit { .. }) {
                reading.subject.policy = TagPolicy::Content;
                any = true;
                let message = format!("{image} is tagged by its content, because git gives no tag");
                let why = std::error::Error::source(error).map(ToString::to_string);
                self.say_once(Event::Warning { message, hint: why });
            }
        }
        any
    }

    /// Build arguments as far as they are known before any tag: for finding
    /// bases and sources. A required image stands in by a name of our own.
    fn plain_args(&self, artifact: &Artifact) -> BTreeMap<String, String> {
        let templates = self.templates();
        let required = artifact
            .requires
            .iter()
            .map(|r| (r.alias.clone(), sentinel(&r.image)));
        let values = artifact
            .build_args
            .iter()
            .filter_map(|(name, arg)| match arg {
                BuildArg::Value(template) => Some((
                    name.clone(),
                    templates.render(template, &BTreeMap::new()).ok()?,
                )),
                BuildArg::FromEnvironment => None,
            });
        required.chain(values).collect()
    }
}

impl Reading {
    fn planned(self, image: String, plan: Plan) -> ImageInputs {
        let names: Vec<String> = self.contents.keys().cloned().collect();
        let placed = placed(
            &self.subject.dockerfile,
            &self.build,
            &self.build_args,
            &names,
        );
        ImageInputs {
            image,
            key: Key(plan.key.hex().to_owned()),
            plan,
            subject: self.subject,
            sources: self.sources,
            contents: self.contents,
            dockerfile: self.dockerfile,
            placed: placed.files,
            workdir: placed.workdir,
            build: self.build,
            build_args: self.build_args,
        }
    }
}

impl ImageInputs {
    fn reading(&self) -> Reading {
        Reading {
            subject: self.subject.clone(),
            sources: self.sources.clone(),
            contents: self.contents.clone(),
            dockerfile: self.dockerfile.clone(),
            build: self.build.clone(),
            build_args: self.build_args.clone(),
        }
    }
}

fn build_for(artifact: &Artifact, platform: Option<&kiln_schemas::model::Platform>) -> BuildFor {
    // Undecided means the node's, which is most often this machine's.
    let host = kiln_registry::Platform::host();
    let own = Platform::parse(&format!("linux/{}", host.architecture)).ok();
    let asked = platform.and_then(|p| Platform::parse(&p.to_string()).ok());
    let fallback = Platform {
        os: "linux".into(),
        arch: "amd64".into(),
        variant: String::new(),
    };
    let own = own.unwrap_or(fallback);
    BuildFor {
        target: asked.unwrap_or_else(|| own.clone()),
        build: own,
        stage: artifact.target.clone(),
    }
}

fn contents(
    sources: &Sources,
    hashes: &mut HashCache,
) -> Result<BTreeMap<String, Content>, Failure> {
    let mut contents = BTreeMap::new();
    for file in &sources.files {
        let content = match &file.kind {
            FileKind::Folder => continue,
            FileKind::Link(target) => Content::Link(target.clone()),
            FileKind::File => {
                let hash = hashes.hash(&file.absolute).map_err(|error| {
                    let mut failure =
                        Failure::new(format!("cannot read {}", file.absolute.display()));
                    failure.causes.push(error.to_string());
                    failure
                })?;
                Content::File(hash, file.mode & 0o111)
            }
        };
        contents.insert(file.path.to_string_lossy().into_owned(), content);
    }
    Ok(contents)
}

fn skaffold_digest(sources: &Sources) -> Result<String, Failure> {
    let files = sources
        .files
        .iter()
        .filter(|file| file.kind != FileKind::Folder);
    let named: Vec<(String, &Path)> = files
        .map(|f| (f.path.to_string_lossy().into_owned(), f.absolute.as_path()))
        .collect();
    input_digest(named.iter().map(|(name, path)| (name.as_str(), *path)))
        .map_err(|error| Failure::from_error(&error))
}

/// The folders to watch: each root, and below a recursive one each folder that
/// is part of the sources. What is ignored is not watched.
fn folders(sources: &Sources) -> BTreeSet<PathBuf> {
    let mut folders: BTreeSet<PathBuf> =
        sources.watch.iter().map(|root| root.path.clone()).collect();
    for file in &sources.files {
        let below = match file.kind {
            FileKind::Folder => Some(file.absolute.as_path()),
            _ => file.absolute.parent(),
        };
        folders.extend(below.map(Path::to_owned));
    }
    folders
}

/// Where an artifact's Dockerfile is.
pub(super) fn dockerfile_path(artifact: &Artifact) -> PathBuf {
    let below = artifact
        .context_sub_path
        .as_deref()
        .unwrap_or(Path::new(""));
    artifact.context.join(below).join(&artifact.dockerfile)
}

/// The reading of an image that no changed path can concern.
fn unconcerned<'a>(name: &str, before: Option<(&'a Inputs, &Batch)>) -> Option<&'a ImageInputs> {
    let (inputs, batch) = before?;
    let Some(Ok(image)) = inputs.images.get(name) else {
        return None;
    };
    if batch.rescan {
        return None;
    }
    let artifact = &image.subject.artifact;
    let hooks = &artifact.hooks.before;
    let concerns = |path: &PathBuf| {
        let feeds_a_hook = |input: &PathBuf| path.starts_with(input);
        path.starts_with(&artifact.context)
            || *path == image.dockerfile
            || hooks.iter().flat_map(|hook| &hook.inputs).any(feeds_a_hook)
    };
    (!batch.paths.iter().any(concerns)).then_some(image)
}
