//! Names, tags and digests of images.

use regex::Regex;

use super::fieldspec::{self, FieldSpec};
use crate::Error;
use crate::yaml::ops;
use crate::yaml::{Kind, Node, NodeId, Tree};

/// One entry of `images`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) new_name: String,
    pub(crate) tag_suffix: String,
    pub(crate) new_tag: String,
    pub(crate) digest: String,
}

/// An entry that can be matched.
pub(crate) struct ImageRule<'a> {
    image: &'a Image,
    pattern: Regex,
}

impl<'a> ImageRule<'a> {
    /// The name is a regular expression to kustomize.
    pub(crate) fn new(image: &'a Image) -> Result<Self, Error> {
        let name = &image.name;
        let pattern = format!("^{name}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$");
        Regex::new(&pattern)
            .map(|pattern| Self { image, pattern })
            .map_err(|_| Error::Regex {
                pattern: name.clone(),
            })
    }

    /// The image that takes the place of another one; [`None`] if it stays.
    fn rewrite(&self, value: &str) -> Option<String> {
        if !self.pattern.is_match(value) {
            return None;
        }
        let (name, tag, digest) = split(value);
        let image = self.image;
        let name = if image.new_name.is_empty() {
            name
        } else {
            &image.new_name
        };
        let suffixed = format!("{tag}{}", image.tag_suffix);
        let (tag, digest) = match (image.new_tag.as_str(), image.digest.as_str()) {
            ("", "") if !image.tag_suffix.is_empty() => (suffixed.as_str(), ""),
            ("", "") => (tag, digest),
            ("", digest) => ("", digest),
            (tag, digest) => (tag, digest),
        };
        let mut result = name.to_owned();
        if !tag.is_empty() {
            result.push(':');
            result.push_str(tag);
        }
        if !digest.is_empty() {
            result.push('@');
            result.push_str(digest);
        }
        Some(result)
    }

    fn set(&self, t: &mut Tree, node: NodeId) -> Result<(), Error> {
        ops::expect(t, node, Kind::Scalar)?;
        if let Some(image) = self.rewrite(&t[node].value) {
            ops::set_scalar(t, node, Node::scalar(image))?;
        }
        Ok(())
    }

    /// Rewrites the images of a resource: in every list of containers,
    /// wherever it stands, and at the configured places.
    pub(crate) fn apply(
        &self,
        t: &mut Tree,
        node: NodeId,
        places: &[FieldSpec],
    ) -> Result<(), Error> {
        if ops::top(t, node, "kind") == "CustomResourceDefinition" {
            return Ok(());
        }
        self.containers(t, node)?;
        for place in places {
            fieldspec::apply(t, node, place, None, &mut |t, image| self.set(t, image))?;
        }
        Ok(())
    }

    fn containers(&self, t: &mut Tree, node: NodeId) -> Result<(), Error> {
        match t[node].kind {
            Kind::Mapping => {
                for at in (0..t[node].content.len()).step_by(2) {
                    let (key, value) = (t[node].content[at], t[node].content[at + 1]);
                    self.containers(t, value)?;
                    if matches!(t[key].value.as_str(), "containers" | "initContainers")
                        && t[value].kind == Kind::Sequence
                    {
                        self.list(t, value)?;
                    }
                }
                Ok(())
            }
            Kind::Sequence => t[node]
                .content
                .clone()
                .into_iter()
                .try_for_each(|item| self.containers(t, item)),
            _ => Ok(()),
        }
    }

    fn list(&self, t: &mut Tree, list: NodeId) -> Result<(), Error> {
        for item in t[list].content.clone() {
            if let Some(image) = ops::field(t, item, "image")? {
                self.set(t, image)?;
            }
        }
        Ok(())
    }
}

/// Splits into name, tag and digest; a port of the host is no tag.
fn split(image: &str) -> (&str, &str, &str) {
    let start = image.find('/').filter(|at| *at > 0).unwrap_or(0);
    let at = |c| image[start..].find(c).map(|at| at + start);
    match (at(':'), at('@')) {
        (None, None) => (image, "", ""),
        (colon, Some(digest)) if colon.is_none_or(|colon| digest < colon) => {
            (&image[..digest], "", &image[digest + 1..])
        }
        (Some(colon), Some(digest)) => (
            &image[..colon],
            &image[colon + 1..digest],
            &image[digest + 1..],
        ),
        (Some(colon), None) => (&image[..colon], &image[colon + 1..], ""),
        (None, Some(digest)) => (&image[..digest], "", &image[digest + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_split() {
        assert_eq!(split("a"), ("a", "", ""));
        assert_eq!(split("h:5/a"), ("h:5/a", "", ""));
        assert_eq!(split("h:5/a:t"), ("h:5/a", "t", ""));
        assert_eq!(split("a:t@sha256:d"), ("a", "t", "sha256:d"));
        assert_eq!(split("a@sha256:d"), ("a", "", "sha256:d"));
    }
}
