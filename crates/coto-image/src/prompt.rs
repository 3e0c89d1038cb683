use crate::error::Error;

/// The template that CLIP names first: `a photo of a {}.`
pub const PHOTO: &str = "a photo of a {}.";

/// The prompts of each class for a zero-shot head: `[class][template]`, the class's name in place of the template's `{}`, its
/// underscores turned into blanks.
///
/// A head's row for a class is the mean of its prompts' normalised embeddings, normalised again (CLIP, section 3.1.4).
///
/// ```
/// let prompts = coto_image::prompts(&[coto_image::PHOTO, "a sketch of a {}."], &["ice_cream"])?;
/// assert_eq!(prompts, [["a photo of a ice cream.", "a sketch of a ice cream."]]);
/// # Ok::<(), coto_image::Error>(())
/// ```
///
/// # Errors
/// If there is no template, or one has not exactly one `{}`, or a class has no name.
pub fn prompts(
    templates: &[impl AsRef<str>],
    classes: &[impl AsRef<str>],
) -> Result<Vec<Vec<String>>, Error> {
    if templates.is_empty() {
        return Err(Error::NoTemplate);
    }
    let halves = templates
        .iter()
        .map(|template| {
            let template = template.as_ref();
            match template.split_once("{}") {
                Some((before, after)) if !after.contains("{}") => Ok((before, after)),
                _ => Err(Error::Template {
                    template: template.to_owned(),
                    found: template.matches("{}").count(),
                }),
            }
        })
        .collect::<Result<Vec<_>, Error>>()?;
    classes
        .iter()
        .enumerate()
        .map(|(class, name)| {
            let name = name.as_ref().replace('_', " ");
            if name.trim().is_empty() {
                return Err(Error::NoName { class });
            }
            let prompt = |(before, after): &(&str, &str)| format!("{before}{name}{after}");
            Ok(halves.iter().map(prompt).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_needs_one_place_for_the_class() {
        let message = |template: &str| prompts(&[template], &["cat"]).unwrap_err().to_string();
        assert!(message("a photo").contains("`a photo`"));
        assert!(message("{} and {}").contains("2 times"));
        assert!(prompts(&[] as &[&str], &["cat"]).is_err());
        let nameless = prompts(&[PHOTO], &["cat", "_"]).unwrap_err().to_string();
        assert!(nameless.contains("class 1"), "{nameless}");
    }
}
