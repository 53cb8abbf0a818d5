// The widgets' script would typeset labels with MathJax 2, which is not here; ours hold no TeX.
window.MathJax = Object.assign(window.MathJax || {}, { Hub: { Queue() {} } });
