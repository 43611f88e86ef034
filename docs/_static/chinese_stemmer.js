// Sphinx 9.0 asks for a stemmer of this name on Chinese pages, and brings the English one, which it means.
window.ChineseStemmer = function () {
  return new EnglishStemmer();
};
