#!/usr/bin/env python3
"""Makes labelled pairs of questions: edits of real requests, and templates filled with words.

    synth.py train --intents clinc150.tsv --intents banking77.tsv --seed N > pairs.jsonl
    synth.py held-out --intents clinc150.tsv --intents banking77.tsv --seed N > pairs.jsonl

The two modes share no template, no word list and no request: `train` edits the training split of
the intents, `held-out` the test split, each with words of its own. Label 1: one answer may serve
both. The category is `family:source`; a file of intents has the columns split, intent, text.
"""
import argparse
import json
import random
import re
import sys

# --- words: what one mode swaps, the other has never seen --------------------------------------

WORDS = {
    "train": {
        "city": "london paris berlin madrid rome tokyo boston chicago denver seattle".split(),
        "person": "james mary john linda robert susan michael karen".split(),
        "product": "salesforce hubspot slack zoom gmail outlook netflix spotify paypal stripe".split(),
        "thing": "chicken|beef|pork|tofu;dog|cat|bird|horse;sofa|table|lamp|mattress;visa|passport|licence|permit;"
        "savings|mortgage|pension|loan;monthly|weekly|daily|yearly;email|letter|parcel|postcard;red|blue|green|white",
        "scope": ["for my wife", "for a business", "in canada", "for students", "on android", "at night"],
        "adjective": "used free business student joint foreign temporary international".split(),
        "antonym": "open/close increase/decrease enable/disable lock/unlock send/receive buy/sell "
        "cheapest/expensive fastest/slowest before/after high/low add/remove start/stop public/private "
        "include/exclude accept/decline online/offline".split(),
        "greeting": ["Hi, ", "Hello, ", "Hey, quick question: ", "Hi there! ", "Sorry to bother you, but "],
        "thanks": [", please", " please?", ", thanks", " - thanks!", ", thank you"],
        "number": [2, 3, 5, 7, 10, 14, 30, 48, 100, 250],
        "unit": "day week month hour mile".split(),
    },
    "held-out": {
        "city": "lisbon oslo cairo nairobi lima dublin vienna prague kyoto perth".split(),
        "person": "amelia tariq ingrid mateo yuki oliver fatima dmitri".split(),
        "product": "notion dropbox trello asana jira klarna revolut shopify figma vimeo".split(),
        "thing": "salmon|lentil|mushroom|turkey;hamster|parrot|rabbit|turtle;fence|gutter|chimney|driveway;"
        "diploma|invoice|receipt|contract;cotton|leather|wool|silk;violin|guitar|piano|flute;"
        "asthma|diabetes|eczema|migraine;spaniel|poodle|beagle|terrier",
        "scope": ["for my grandmother", "for non-profits", "in norway", "for veterans", "on linux", "on weekends"],
        "adjective": "secondhand corporate junior shared overseas provisional deluxe vegan".split(),
        "antonym": "allow/forbid import/export raise/lower activate/deactivate borrow/lend approve/reject "
        "above/below early/late hire/fire connect/disconnect minimum/maximum subscribe/unsubscribe "
        "upload/download permanent/temporary domestic/international".split(),
        "greeting": ["Good morning! ", "hey there ", "Hi team, ", "Quick one - ", "um so ", "Hello, I was wondering: "],
        "thanks": [" pls", ", many thanks", "! Thanks in advance", ". Cheers", " thank you so much"],
        "number": [4, 6, 8, 9, 12, 15, 21, 36, 60, 90],
        "unit": "minute year gram litre euro".split(),
    },
}

# a, b: two frames that ask the same; X is a thing to do, N a thing
SAME = {
    "train": [
        ("How do I {do}?", "how can I {do}"),
        ("How do I {do}?", "What are the steps to {do}?"),
        ("Can I {do}?", "Is it possible to {do}?"),
        ("Where can I {do}?", "Where do I {do}?"),
        ("How long does it take to {do}?", "How much time does it take to {do}?"),
        ("I want to {do}", "I'd like to {do}"),
        ("What is the price of {noun}?", "How much does {noun} cost?"),
    ],
    "held-out": [
        ("How do I {do}?", "How would I {do}?"),
        ("How can I {do}?", "What do I need to do to {do}?"),
        ("Can I {do}?", "Am I allowed to {do}?"),
        ("Is it OK to {do}?", "May I {do}?"),
        ("Where could I {do}?", "Where can I {do}?"),
        ("What does it cost to {do}?", "How much does it cost to {do}?"),
        ("How much is {noun}?", "What is the cost of {noun}?"),
        ("Do I have to {do}?", "Do I need to {do}?"),
    ],
}

TEMPLATES = {
    "train": {
        "entity": ["How do I export my data from {product}?", "What is the weather like in {city}?",
                   "Send an invite to {person}", "Can I pay with {product}?", "How far is {city} from {city2}?"],
        "number": ["Can I return it within {n} days?", "Book a table for {n} people", "What is {n} percent of {n2}?",
                   "How long should I roast a {n} kg joint?", "Is a {n} bedroom flat available?"],
        "order": ["Is {city} bigger than {city2}?", "Transfer the money from {person} to {person2}",
                  "How do I move my files from {product} to {product2}?", "Did {person} call {person2}?"],
        "negation": ["Which plans {v} include calls?", "What happens if I {v} pay on time?",
                     "Why {v} my card work abroad?"],
        "scope": ["What is the limit {s}?", "How do I renew a licence {s}?", "What does insurance cost {s}?"],
    },
    "held-out": {
        "entity": ["Does {product} have a desktop app?", "Which train goes to {city}?", "Is {person} the owner?",
                   "how do i connect {product} to my calendar", "Who founded {product}?",
                   "best museums in {city}", "what did {person} say about the budget",
                   "Compare {product} and {product2}", "Recipe for {thing} soup", "how to repair a {thing}"],
        "number": ["How do I split a bill {n} ways?", "Convert {n} {unit}s to {unit2}s", "what is {n} times {n2}",
                   "Is version {n}.{n2} supported?", "What happened in 19{nn}?", "exercises for a {n} year old",
                   "Can I cancel {nw} hours before?", "Remind me in {nw} {unit}s", "Flights on {month} {n}",
                   "What is on at {n}pm on {day}?", "a loan of {n},000 dollars over {n2} years"],
        "order": ["Does {person} report to {person2}?", "Is {thing} better than {thing2}?",
                  "how many times did {city} host more games than {city2}", "forward the mail of {person} to {person2}",
                  "Translate this page from {lang} to {lang2}", "What if {person} owes {person2} money?",
                  "convert {unit}s to {unit2}s", "subtract {n} from {n2}", "Should I do {thing} before {thing2}?"],
        "negation": ["Are visitors {x}allowed in the lab?", "Is the warranty {x}transferable?",
                     "Explain why the test {did}pass", "People who {do}eat gluten", "Which states {do}tax pensions?",
                     "Should I {x2}take it with food?", "the report is {still} available", "Is it {ever} worth it to refinance?",
                     "a salad with{out} nuts", "Can I drive with{out} insurance?"],
        "scope": ["{q} users can edit the page, how do I change that?", "delete {q} messages in the folder",
                  "What is the fee {s}?", "how do i set up a profile {s}", "Which {adj} plans do you offer?",
                  "What can I do {when} the meeting?", "How do I log in {with} a password?",
                  "Show the tasks of {whose} team", "Do I need cash {andor} a card?", "Is parking {where} the school free?"],
    },
}

SLOTS = {
    "lang": "danish welsh korean polish hindi tamil".split(),
    "month": "January March May July August November".split(),
    "day": "Monday Tuesday Thursday Friday Sunday".split(),
    "nw": "two three five six eight ten twelve twenty".split(),
    "nn": [str(n) for n in range(14, 99, 7)],
    "v": ["do", "do not"], "x": ["", "not "], "did": ["did ", "did not "], "do": ["", "do not "], "x2": ["", "not "],
    "still": ["still", "no longer"], "ever": ["ever", "never"], "out": ["", "out"],
    "q": ["all", "only some", "only", "no", "most", "any"],
    "when": ["before", "after", "during"], "with": ["with", "without"], "whose": ["my", "your", "our", "their", "her"],
    "andor": ["and", "or", "without"], "where": ["near", "behind", "inside", "opposite"],
    "v_": [],
}

DOINGS = {
    "train": ["renew my passport", "cancel my gym membership", "change my address", "report a lost card",
              "park near the station", "reset the router", "bring my own food", "close a savings account",
              "print a boarding pass", "apply for a student loan", "freeze my account", "get a replacement key"],
    "held-out": ["appeal a parking ticket", "defrost a freezer", "register a trademark", "insulate the attic",
                 "adopt a rescue dog", "pair my headphones", "rent a cargo bike", "dispose of old paint",
                 "verify my identity", "carry a tripod on board", "leave a negative review", "split a PDF file",
                 "sublet my flat", "backdate a claim", "swap my shift with a colleague", "prune an olive tree"],
}
NOUNS = {
    "train": ["a new window", "a monthly pass", "the premium plan", "a guided tour", "an oil change"],
    "held-out": ["a tooth extraction", "the annual subscription", "a wheel alignment", "an eye test",
                 "a burial plot", "the family ticket"],
}


class Maker:
    def __init__(self, mode, seed, requests):
        self.mode, self.random = mode, random.Random(f"{mode} {seed}")
        self.words, self.requests = WORDS[mode], requests
        self.random.shuffle(self.requests)
        self.groups = [group.split("|") for group in self.words["thing"].split(";")]
        self.pairs, self.seen = [], set()

    def add(self, label, category, a, b):
        fold = lambda text: re.sub(r"\W+", " ", text.lower()).strip()
        if not a or not b or (label == 0 and fold(a) == fold(b)) or a == b or (a, b) in self.seen:
            return False
        self.seen.add((a, b))
        self.pairs.append({"a": a, "b": b, "label": label, "category": category})
        return True

    # --- templates ----------------------------------------------------------------------------

    def fill(self, template, chosen):
        return re.sub(r"\{(\w+)\}", lambda slot: str(chosen[slot[1]]), template)

    def choose(self, template):
        chosen = {}
        for slot in re.findall(r"\{(\w+)\}", template):
            base = slot.rstrip("2") if slot != "x2" else slot
            first = chosen.get(base)
            chosen[slot] = self.value(base, avoid=first)
        return chosen

    def value(self, base, avoid=None):
        if base == "n":
            values = self.words["number"]
        elif base == "s":
            values = [""] + self.words["scope"]
        elif base == "adj":
            values = self.words["adjective"]
        elif base == "thing":
            group = next((g for g in self.groups if avoid in g), None) or self.random.choice(self.groups)
            values = group
        else:
            values = self.words.get(base) or SLOTS[base]
        value = self.random.choice([value for value in values if value != avoid])
        if base in ("city", "person", "product") and self.random.random() < 0.7:
            value = value.capitalize()
        return value

    def template_negatives(self, count):
        for family, templates in TEMPLATES[self.mode].items():
            for _ in range(count):
                template = self.random.choice(templates)
                one = self.choose(template)
                other = dict(one)
                if family == "order":
                    slots = [s for s in one if s + "2" in one]
                    for slot in slots:
                        other[slot], other[slot + "2"] = one[slot + "2"], one[slot]
                else:
                    slot = self.random.choice(list(one))
                    base = slot.rstrip("2") if slot != "x2" else slot
                    other[slot] = self.value(base, avoid=one[slot])
                if str(one).lower() == str(other).lower():
                    continue
                a, b = (self.fill(template, slots).strip() for slots in (one, other))
                if self.random.random() < 0.4:
                    b = self.manners(b)
                self.add(0, f"{family}:template", tidy(a), tidy(b))

    def template_positives(self, count):
        for _ in range(count):
            a, b = self.random.choice(SAME[self.mode])
            filled = {"do": self.random.choice(DOINGS[self.mode]), "noun": self.random.choice(NOUNS[self.mode])}
            self.add(1, "paraphrase:template", self.fill(a, filled), self.fill(b, filled))
        # the same frames with other things to do
        for _ in range(count):
            a, b = self.random.choice(SAME[self.mode])
            one, other = self.random.sample(DOINGS[self.mode], 2)
            noun, noun2 = self.random.sample(NOUNS[self.mode], 2)
            self.add(0, "sibling:template", self.fill(a, {"do": one, "noun": noun}), self.fill(b, {"do": other, "noun": noun2}))
        # and other frames with the same
        frames = ["How do I {do}?", "Can I {do}?", "Where can I {do}?", "Why should I {do}?", "When can I {do}?",
                  "Do I have to {do}?", "How long does it take to {do}?", "How much does it cost to {do}?",
                  "Who can {do}?", "Should I {do}?", "What happens if I {do}?"]
        for _ in range(count):
            a, b = self.random.sample(frames, 2)
            filled = {"do": self.random.choice(DOINGS[self.mode])}
            self.add(0, "frame:template", self.fill(a, filled), self.fill(b, filled))

    # --- edits of requests --------------------------------------------------------------------

    def manners(self, text):
        kind = self.random.randrange(5)
        lower = text if text.startswith("I ") else text[:1].lower() + text[1:]
        if kind == 0:
            return text.lower() if text.lower() != text else text.upper()
        if kind == 1:
            return self.random.choice(self.words["greeting"]) + lower
        if kind == 2:
            return text.rstrip("?.! ") + self.random.choice(self.words["thanks"])
        if kind == 3:
            return text.rstrip("?.! ") + self.random.choice(["", "??", " ?", "!", "...", "?!"])
        return self.random.choice(self.words["greeting"]) + lower.rstrip("?.! ") + self.random.choice(self.words["thanks"])

    def contract(self, text):
        pairs = [("what is", "what's"), ("do not", "don't"), ("i am", "i'm"), ("cannot", "can't"), ("is not", "isn't"),
                 ("i have", "i've"), ("does not", "doesn't"), ("where is", "where's"), ("how is", "how's"), ("i will", "i'll")]
        self.random.shuffle(pairs)
        for long, short in pairs:
            for a, b in ((long, short), (short, long), (short.replace("'", ""), long)):
                edited = re.sub(rf"\b{a}\b(?!')", b, text, count=1, flags=re.I)
                if edited != text and a not in ("im", "ill"):
                    return edited
        return None

    def typo(self, text):
        places = [m for m in re.finditer(r"[a-z]{6,}", text)]
        if not places:
            return None
        place = self.random.choice(places)
        word, at = place.group(), self.random.randrange(1, len(place.group()) - 2)
        bad = self.random.choice([word[:at] + word[at + 1] + word[at] + word[at + 2:], word[:at] + word[at + 1:],
                                  word[:at] + word[at] + word[at:]])
        return text[:place.start()] + bad + text[place.end():] if bad != word else None

    def swap_word(self, text, old, new):
        return re.sub(rf"\b{re.escape(old)}\b", new, text, count=1, flags=re.I)

    def numbers(self, text):
        found = list(re.finditer(r"\d+", text))
        if found:
            place = self.random.choice(found)
            value = int(place.group())
            other = self.random.choice([value + 1, value + 10, max(0, value - 1), value * 10, value * 2 + 3])
            return text[:place.start()] + str(other) + text[place.end():] if other != value else None
        words = "two three four five six seven eight nine ten twelve twenty fifty".split()
        for word in words:
            if re.search(rf"\b{word}\b", text, re.I):
                return self.swap_word(text, word, self.random.choice([w for w in words if w != word]))
        return None

    def negation(self, text):
        edits = [(r"\bdo i\b", "don't i"), (r"\bcan i\b", "can't i"), (r"\bis (it|there|my|the)\b", r"isn't \1"),
                 (r"\bshould i\b", "should i not"), (r"\bi want\b", "i don't want"), (r"\bi need\b", "i don't need"),
                 (r"\bwith\b", "without"), (r"\bare\b", "aren't"), (r"\bdoes\b", "doesn't"), (r"\bhow to\b", "how not to"),
                 (r"\bis\b", "is not"), (r"\bdid\b", "didn't"), (r"\bwill\b", "will not"), (r"^(set|tell|show|make|call|play)\b", r"don't \1"),
                 (r"\bstill\b", "no longer"), (r"\balways\b", "never"), (r"\bhave\b", "have never")]
        return self.first_edit(text, edits)

    def first_edit(self, text, edits):
        edits = list(edits)
        self.random.shuffle(edits)
        for old, new in edits:
            edited = re.sub(old, new, text, count=1, flags=re.I)
            if edited != text:
                return edited
        return None

    def antonym(self, text):
        pairs = [tuple(pair.split("/")) for pair in self.words["antonym"]]
        pairs += [(b, a) for a, b in pairs] + [("on", "off"), ("off", "on"), ("in", "out"), ("more", "less"), ("first", "last"), ("up", "down")]
        return self.first_edit(text, [(rf"\b{a}\b", b) for a, b in pairs])

    def order(self, text):
        for a, b in (("from", "to"), ("to", "from")):
            found = re.search(rf"\b{a} ((?:the |my )?[\w]+) {b} ((?:the |my )?[\w]+)\b", text, re.I)
            if found and found[1].lower() != found[2].lower():
                return text[:found.start()] + f"{a} {found[2]} {b} {found[1]}" + text[found.end():]
        found = re.search(r"\b(\w{3,}) (than|before|after|into|over|instead of) (\w{3,})\b", text, re.I)
        if found:
            return text[:found.start()] + f"{found[3]} {found[2]} {found[1]}" + text[found.end():]
        return None

    def scope(self, text):
        kind = self.random.randrange(4)
        if kind == 0 and re.search(r"\bmy ", text, re.I):
            owner = self.random.choice(["my wife's ", "my colleague's ", "my company's ", "my old ", "our ", "your ", "her "])
            return re.sub(r"\bmy ", owner, text, count=1, flags=re.I)
        if kind == 1 and re.search(r"\b(a|the) ", text, re.I):
            adjective = self.random.choice(self.words["adjective"])
            return re.sub(r"\b(a|the) ", rf"\1 {adjective} ", text, count=1, flags=re.I)
        if kind == 2:
            edits = [(r"\bthe\b", "all the"), (r"\bmy\b", "all my"), (r"\ball\b", "only"), (r"\bcan i\b", "can only i"),
                     (r"\bany\b", "every"), (r"\band\b", "or"), (r"\bfor\b", "except for"), (r"\bbefore\b", "after")]
            return self.first_edit(text, edits)
        return text.rstrip("?. ") + " " + self.random.choice(self.words["scope"])

    def entity(self, text):
        names = {**{w: "city" for m in WORDS.values() for w in m["city"]}, **{w: "person" for m in WORDS.values() for w in m["person"]},
                 **{w: "product" for m in WORDS.values() for w in m["product"]}}
        extra = "spain france italy germany china japan mexico canada texas florida ohio tokyo mom dad visa mastercard chase amex".split()
        for word in re.findall(r"[a-z']+", text.lower()):
            if word in names:
                return self.swap_word(text, word, self.value(names[word], avoid=word))
            if word in extra:
                return self.swap_word(text, word, self.random.choice([w for w in extra if w != word]))
        return None

    def sibling(self, text):
        """Another content word of the same intents in the place of one."""
        known = [w for w in re.findall(r"[a-z]{4,}", text.lower()) if w in self.siblings]
        if not known:
            return None
        word = self.random.choice(known)
        return self.swap_word(text, word, self.random.choice(self.siblings[word]))

    def learn_siblings(self, by_intent):
        """Words that stand between the same neighbours in requests of the same intent."""
        common = set("what when where which that this with from have your please could would should about there their will does "
                     "want need know tell make like been were they them much many some into just".split())
        self.siblings = {}
        for texts in by_intent.values():
            places = {}
            for text in texts:
                words = re.findall(r"[a-z']+", text.lower())
                for before, word, after in zip(["^"] + words, words, words[1:] + ["$"]):
                    if len(word) > 3 and word not in common:
                        places.setdefault((before, after), set()).add(word)
            for words in places.values():
                for word in words:
                    others = [w for w in words if w[:3] != word[:3] and w not in SYNONYMS.get(word, ())]
                    if others:
                        self.siblings.setdefault(word, []).extend(sorted(others))

    def edits(self, count):
        kinds = [(0, "number", self.numbers), (0, "negation", self.negation), (0, "antonym", self.antonym), (0, "order", self.order),
                 (0, "scope", self.scope), (0, "entity", self.entity), (0, "sibling", self.sibling),
                 (1, "manners", self.manners), (1, "contraction", self.contract), (1, "typo", self.typo)]
        for label, name, edit in kinds:
            made = 0
            for text in self.requests:
                if made >= count:
                    break
                edited = edit(text)
                if edited and label == 0 and self.random.random() < 0.3:
                    edited = self.manners(edited)
                if edited:
                    made += self.add(label, f"{name}:edit", text, edited)


# not told apart: a sibling must not be a synonym
SYNONYMS = {a: {b} for pair in ("purchase buy,start begin,movie film,kids children,large big,luggage baggage,"
            "silence mute,help assistance,reserve book,close shut,photo picture").split(",")
            for a, b in (pair.split(), pair.split()[::-1])}


def tidy(text):
    text = re.sub(r"\s+", " ", text).replace(" ?", "?").replace(" ,", ",")
    return text[:1].upper() + text[1:] if text.endswith("?") else text


def read(path, split):
    by_intent = {}
    for line in open(path, encoding="utf-8").read().splitlines()[1:]:
        part, intent, text = line.split("\t")
        if part == split and intent != "oos" and len(text.split()) >= 4:
            by_intent.setdefault(intent, []).append(text.strip('"'))
    return by_intent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["train", "held-out"])
    parser.add_argument("--intents", action="append", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--edits", type=int, default=2000, help="of each kind, at most")
    parser.add_argument("--templates", type=int, default=800, help="of each family, about")
    arguments = parser.parse_args()
    by_intent = {}
    for path in arguments.intents:
        for intent, texts in read(path, "train" if arguments.mode == "train" else "test").items():
            by_intent.setdefault(intent, []).extend(texts)
    maker = Maker(arguments.mode, arguments.seed, [text for texts in by_intent.values() for text in texts])
    maker.learn_siblings(by_intent)
    maker.edits(arguments.edits)
    maker.template_negatives(arguments.templates)
    maker.template_positives(arguments.templates)
    for pair in maker.pairs:
        json.dump(pair, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
