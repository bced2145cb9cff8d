/** Colours of tags: told apart with any kind of colour vision (Okabe and Ito 2008), on dark and on bright images. */

const COLOURS = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#ffffff"];
const WITHOUT_TAG = "#c8c8c8";

/** Gives each tag a colour, the same as long as the page is open. */
export class Colours {
  constructor() {
    /** @type {Map<string, string>} */
    this._colours = new Map([["", WITHOUT_TAG]]);
  }

  /** @param {string} tag the empty text for annotations without one */
  of(tag) {
    let colour = this._colours.get(tag);
    if (!colour) {
      colour = COLOURS[(this._colours.size - 1) % COLOURS.length];
      this._colours.set(tag, colour);
    }
    return colour;
  }
}
