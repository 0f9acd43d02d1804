// What LaTeX commands stand for: pairs of a name and a character, and sets of names that are read alike.

const SIGNS = words(
  "times × cdot ⋅ div ÷ pm ± mp ∓ ast ∗ star ⋆ circ ∘ bullet ∙ oplus ⊕ otimes ⊗ cup ∪ cap ∩ setminus ∖ " +
    "le ≤ leq ≤ leqslant ⩽ ge ≥ geq ≥ geqslant ⩾ ne ≠ neq ≠ approx ≈ equiv ≡ cong ≅ sim ∼ simeq ≃ propto ∝ ll ≪ gg ≫ " +
    "in ∈ notin ∉ ni ∋ subset ⊂ subseteq ⊆ supset ⊃ supseteq ⊇ mid ∣ nmid ∤ parallel ∥ perp ⊥ " +
    "to → rightarrow → leftarrow ← longrightarrow ⟶ Rightarrow ⇒ Leftarrow ⇐ implies ⟹ iff ⟺ Leftrightarrow ⇔ " +
    "leftrightarrow ↔ mapsto ↦ uparrow ↑ downarrow ↓ land ∧ wedge ∧ lor ∨ vee ∨ neg ¬ lnot ¬ forall ∀ exists ∃ " +
    "therefore ∴ because ∵ ldots … dots … dotsc … dotsb ⋯ cdots ⋯ vdots ⋮ ddots ⋱ colon : lvert | rvert | vert | Vert ‖ " +
    "lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ langle ⟨ rangle ⟩ lbrace { rbrace } lbrack [ rbrack ] backslash \\ prime ′",
);
const LETTERS = words(
  "alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ lambda λ mu μ " +
    "nu ν xi ξ pi π rho ρ sigma σ tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ " +
    "Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω infty ∞ emptyset ∅ varnothing ∅ partial ∂ nabla ∇ ell ℓ hbar ℏ " +
    "Re ℜ Im ℑ aleph ℵ angle ∠ measuredangle ∡ triangle △ square □ Box □ degree ° checkmark ✓ blacksquare ■ dagger †",
);
const LARGE = words("sum ∑ prod ∏ bigcup ⋃ bigcap ⋂ lim lim max max min min sup sup inf inf limsup limsup gcd gcd");
const INTEGRALS = words("int ∫ iint ∬ iiint ∭ oint ∮");
const FUNCTIONS = new Set(
  "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp det dim deg ker arg lcm bmod mod Pr".split(
    " ",
  ),
);
const ACCENTS = words(
  "overline ‾ bar ¯ hat ^ widehat ^ vec → overrightarrow → overleftrightarrow ↔ dot ˙ ddot ¨ tilde ~ widetilde ~ " +
    "overbrace ⏞ overarc ⌒ wideparen ⌒",
);
const SPACES = { "\\,": 0.17, "\\:": 0.22, "\\;": 0.28, "\\ ": 0.25, "\\quad": 1, "\\qquad": 2, "~": 0.25, "\\!": 0 };
const TEXTS = new Set(
  "text textbf textit textrm texttt textnormal mbox mathrm operatorname operatorname* mathop".split(" "),
);
const FONTS = new Set("mathbf mathit mathsf mathcal mathfrak mathscr boldsymbol bm pmb".split(" "));
const DOUBLE = { R: "ℝ", Z: "ℤ", N: "ℕ", Q: "ℚ", C: "ℂ", P: "ℙ", H: "ℍ" };
const IGNORED = new Set(
  (
    "displaystyle textstyle scriptstyle limits nolimits hline big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr middle " +
    "nonumber notag centering"
  ).split(" "),
);
const FENCES = { pmatrix: "()", bmatrix: "[]", vmatrix: "||", Vmatrix: "‖‖", Bmatrix: "{}", cases: "{ ", rcases: " }" };
const TABLES =
  /^(?:[pbvVB]?matrix|smallmatrix|r?cases|array|tabular|(?:align|aligned|alignat|gather|gathered|eqnarray|equation|split|multline)\*?)$/;

function words(text) {
  const all = text.split(" ");
  return new Map(Array.from({ length: all.length / 2 }, (_, i) => [all[2 * i], all[2 * i + 1]]));
}
