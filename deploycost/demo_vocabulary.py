"""The words of the generated news: invented names, and per class the beats that a wire service would cover.

Kept apart from the grammar because it is data. In a template, `{slot}` is drawn from `ENTITIES` (one draw per
story, so that a name stays the same from headline to last line; a trailing digit asks for another one) or from
`NUMBERS` (a fresh draw each time), and `[a|b]` is one of its alternatives; ` / ` parts one template from the
next. Words such as rally, strike, record, court, field, board, shot and launch are shared between classes on
purpose: no single word gives a class away.
"""

from typing import NamedTuple

LABEL_NAMES = ("World", "Sports", "Business", "Sci/Tech")
WORLD, SPORTS, BUSINESS, SCI_TECH = range(4)

# Pairs that a hurried human annotator mixes up: where the label noise goes.
CONFUSABLE = ((WORLD, BUSINESS), (BUSINESS, SCI_TECH), (WORLD, SCI_TECH), (SPORTS, BUSINESS), (WORLD, SPORTS))


class Beat(NamedTuple):
    """One kind of story: its class, and templates for headline, lead and the sentences that may follow."""

    label: int
    headlines: tuple[str, ...]
    leads: tuple[str, ...]
    follows: tuple[str, ...]


def _beat(label: int, headlines: str, leads: str, follows: str) -> Beat:
    return Beat(label, *(tuple(templates.split(" / ")) for templates in (headlines, leads, follows)))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


ENTITIES: dict[str, tuple[str, ...]] = {
    "given": _names(
        "Ansel, Brida, Corin, Delma, Edrik, Fenna, Garrin, Hesta, Ivor, Jorun, Kalla, Lorne, Mirela, Nevin, Odra, "
        "Perrin, Quenna, Rolf, Sabra, Tamsin, Ulric, Vesna, Wendel, Yara"
    ),
    "person": _names(
        "Arkwold, Bellimore, Castrine, Dunmarsh, Elverstone, Farrowby, Gressling, Hallowin, Isbrand, Jessamy, "
        "Korvane, Lindquell, Marrowick, Nethercole, Ostrelle, Pendrask, Quillary, Rostwick, Selvane, Thornley-Ash, "
        "Umbral, Vantreese, Westerlin, Yarrowgate, Zelmer, Ashgrove-Pell, Brackwater, Colmarden, Drayside, Fenwhistle"
    ),
    "city": _names(
        "Port Ellery, Northmere, Harlow Bay, Sandgate Falls, Lake Sorrel, Westhollow, Old Brannock, Fairmarsh, "
        "Stonebridge Cross, Grey Harbour, Millhaven, Eastreach, Redfern Point, Kingsmoor, Silver Ford, Longwater, "
        "Ashby Rock, Cold Spring Bay, Merrin, Tarrow, Valdane, Oakhurst Vale, Broadmere, Saltwick, Highcombe"
    ),
    "country": _names(
        "Avaland, Borrowmark, Caldovia, Drennia, Estmark, Farsland, Gallenia, Hollmark, Istria Nova, Kestonia, "
        "Lower Marren, Norvania, Orland, Sundria"
    ),
    "company": _names(
        "Brightmoor, Kelvanta, Northbeam, Oriondale, Pellicore, Quadrel, Redstone Hale, Silverlane, Tremont Gray, "
        "Unifold, Verridan, Westforge, Axelbrook, Bluefern, Castlewick, Dataharbour, Evermast, Fairlight, "
        "Granite & Lowe, Helmsway, Inkwell, Junipera, Lanternworks, Moorgate Union"
    ),
    "day": _names("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    "part": _names("morning, afternoon, evening, night"),
    "agency": _names("Newsline, Meridian Press, NWP, Crosswire"),
    "sport": _names("football, cricket, rugby, basketball, hockey, baseball"),
    "score": _names("1-0, 2-0, 2-1, 3-1, 3-2, 4-2, 5-3, 6-4"),
    "goods": _names("crude oil, copper, wheat, steel, coffee, natural gas, timber, gold"),
    "device": _names("phone, laptop, camera, music player, games console, handheld, memory card, printer"),
    "creature": _names("whales, bees, salmon, bats, frogs, seabirds, mice, penguins"),
}

# Inclusive ranges, drawn evenly.
NUMBERS: dict[str, tuple[int, int]] = {
    "few": (2, 9),
    "teens": (11, 29),
    "dozens": (21, 98),
    "hundreds": (110, 980),
    "age": (18, 71),
    "year": (1978, 2003),
    "tenth": (1, 9),
}

NEUTRAL_HEADLINES = (
    "{person} [says no decision yet|waits for answer|defends record|rules out quick deal]",
    "{city} [waits for news|counts the cost|looks ahead|gets second chance]",
    "[Questions remain|Pressure grows|Hopes rise|Doubts linger] in {city}",
    "{country} [faces test|weighs next move|sees new hope|under pressure]",
    "[Big week|Long wait|New start|Late twist] for {person}",
)

# Sentences that say nothing about the class.
NEUTRAL_FOLLOWS = (
    "{person} told reporters on {day} that [more details would follow|a decision was near|there was no hurry].",
    "The [announcement|news|result] came [hours|days|weeks] after {person2} [left|returned|spoke in {city2}].",
    "It was the [second|third|fourth|fifth] such [setback|success|surprise] in {few} [weeks|months|years].",
    "[Neither side would|Nobody in {city} would|{person2} would not] comment on the [report|plan|talks] on {day}.",
    '"We [knew it would be hard|have worked for this|did not expect it]," said {given} {person2}, {age}.',
    "A [spokesman|spokeswoman] said the [board|team|group] would [meet|decide|vote] again in {few} [days|weeks].",
    "About {hundreds} people [gathered|waited|watched] as the news reached {city} on {day} {part}.",
    "The {age}-year-old [has held the post|has been in charge] since {year}.",
    "[Critics|Rivals|Supporters] said the move [came too late|would change little|was long overdue].",
    "[Officials|Observers|People close to the matter] put the [cost|chance|figure] at {dozens} [percent|million].",
    "The [record|mark|limit] had stood since {year}, when {city2} [set|broke|missed] it.",
    "No [date|place|price] was [given|set|named].",
)

# What leads over to the second item of a round-up.
JOINTS = ("Elsewhere", "Also on {day}", "In other news", "Separately", "Earlier on {day}")

BEATS: tuple[Beat, ...] = (
    _beat(
        WORLD,
        "{country} [votes|goes to polls] [under tight security|after bitter campaign] / {person} [claims victory|wins"
        " runoff|trails] in {country} [vote|race]",
        "Voters in {country} [queued|lined up] from dawn on {day} to choose a [president|parliament] after a campaign"
        " [marred by attacks|that split the field], with {person} [leading|trailing] by {few} points. / Opposition "
        "leader {given} {person} [called for a recount|refused to concede] on {day} as [partial|final] results gave "
        "the ruling party {dozens} seats in {country}'s assembly.",
        "Observers counted [irregularities|long delays] at {dozens} polling stations. / Supporters held a rally [in "
        "the main square|outside the court] until late on {day}.",
    ),
    _beat(
        WORLD,
        "[Blast|Clash|Raid] [kills {teens}|leaves {teens} dead] in {city} / Rebels [attack|strike] [convoy|army post]"
        " near {city}",
        "At least {teens} people were killed on {day} when [gunmen|rebels] [opened fire on|struck] a [convoy|police "
        "post|market] outside {city}, [the army|a security official] said. / Troops from {country} [pulled "
        "back|advanced] on {day} {part} as [shots|shells] were heard across {city} and [a truce|a ceasefire] [broke "
        "down|held for hours only].",
        "[No group|A little-known group] claimed the attack. / The defence [ministry|minister] said {dozens} soldiers"
        " had been [captured|wounded].",
    ),
    _beat(
        WORLD,
        "{country} and {country2} [resume|break off] [talks|border talks] / Envoy [presses|urges] {country} on "
        "[treaty|hostages|border]",
        "Ministers from {country} and {country2} [met|failed to agree] in {city} on {day} in the [first|last] round "
        "of talks on [a disputed border|prisoners|a peace deal] that has [dragged on|stalled] for {few} years. / "
        "{country} [recalled its ambassador|accused its neighbour of spying] on {day}, [the foreign ministry|a "
        "diplomat] said, in a row that began when {teens} fishermen were [held|shot].",
        "The envoy, {given} {person2}, is to [report to the council|meet both leaders] on {day}. / Both sides [traded"
        " blame|welcomed the draft], diplomats in {city2} said.",
    ),
    _beat(
        WORLD,
        "[Flood|Quake|Storm] [toll|deaths] [rises to|reaches] {hundreds} in {country} / [Aid|Rescue] teams "
        "[reach|race to] {city} after [storm|quake]",
        "Rescue teams [dug|searched] through [mud|rubble] in {city} on {day} for [survivors|the missing] after a "
        "[storm|quake|flood] that killed at least {hundreds} people and left thousands without [water|shelter]. / "
        "Relief flights [landed|were turned back] in {country} on {day} as [villages|districts] cut off by [rain|the "
        "storm] waited for [food|tents|medicine].",
        "Hospitals [ran short of blood|treated {hundreds} injured], aid workers said. / The government declared {few}"
        " days of mourning.",
    ),
    _beat(
        WORLD,
        "[Ex-minister|Former general] {person} [on trial|arrested] in {country} / Court [frees|sentences] {person} in"
        " {country} [coup|graft] case",
        "A court in {city} on {day} [sentenced|acquitted|charged] former [general|minister] {given} {person} over [a "
        "failed coup|the killing of {dozens} protesters|stolen state funds].",
        "Police fired [tear gas|shots in the air] as [students|crowds] marched on the court. / Rights groups say [the"
        " judges|witnesses] were put under pressure.",
    ),
    _beat(
        SPORTS,
        "{city} [beat|edge|hold|stun] {city2} / {person} [lifts|sinks|saves] {city} [late|in thriller]",
        "{given} {person} [scored|struck] [twice|in the final minute] on {day} {part} as {city} [beat|came back to "
        "beat|shocked] {city2} {score} [to go top of the table|to end a run of {few} defeats]. / {city} [held "
        "on|fought back] for a {score} win over {city2} on {day} after {person} was [sent off|carried from the field]"
        " before the break.",
        "The [coach|captain] said his side had [lacked focus|defended well]. / {city} next [host|visit] {city2} in "
        "the cup.",
    ),
    _beat(
        SPORTS,
        "{person} [storms|cruises|battles] into [final|last eight] / [Top seed|Champion] {person} [out|through] in "
        "{city}",
        "[Top seed|Defending champion] {given} {person} [won in straight sets on {day} to reach|was beaten in three "
        "sets on {day} and missed] the [final|last eight] of the {city} Open. / {given} {person} [took a {few}-shot "
        "lead|broke the course record] on {day} with a round of [64|66|67] at the {city} [Open|Classic].",
        "The {age}-year-old [double-faulted|hit the ball out of court] {few} times. / {person2}, who [won the "
        "race|lost the final] here last year, [is out injured|waits in the next round].",
    ),
    _beat(
        SPORTS,
        "[Injury|Knee] [rules out|worries] {person} / {city} [name|drop|recall] {person}",
        "{city} [forward|captain|veteran] {given} {person} will miss {few} [weeks|games] after [hurting a knee|a "
        "heavy tackle] in [training|the win over {city2}], the {sport} club said on {day}. / {country} [recalled|left"
        " out] {given} {person} on {day} from the [squad|side] for the {sport} series against {country2}, [a "
        "surprise|a gamble] by the new coach.",
        "The team doctor [hopes for|ruled out] a return before the play-offs. / He has {dozens} [goals|caps|wins] "
        "this season.",
    ),
    _beat(
        SPORTS,
        "{person} [breaks|sets] [world|national] record / {country} [take|miss] gold in {city}",
        "{given} {person} of {country} [won gold|took silver|set a world record] in the [{hundreds} "
        "metres|marathon|relay] on {day} at the games in {city}, [beating|ahead of] {person2} by {few} "
        "[seconds|lengths]. / [Sprinter|Swimmer|Rower] {given} {person} was [cleared|banned for {few} years] on {day}"
        " over a failed drug test taken [before|after] the race in {city}.",
        "A crowd of {hundreds} [watched the heats|stayed for the medals]. / The federation will [test the sample "
        "again|hear an appeal].",
    ),
    _beat(
        BUSINESS,
        "{company} [profits|earnings] [rise|fall|beat forecasts] / {company} [cuts|lifts] outlook as [sales|costs] "
        "[slip|climb]",
        "{company} [said on {day} that|reported on {day} that] quarterly [profit|earnings] [rose|fell] {dozens} "
        "percent [on strong sales|on weak demand|as costs climbed], [beating|missing] analysts' forecasts. / Shares "
        "in {company} [fell|jumped|rallied] {few} percent on {day} after the [retailer|lender|airline|maker] "
        "[cut|raised] its [outlook|dividend] for the year.",
        "Revenue was ${few}.{tenth} billion, [up|down] from a year earlier. / The stock has [lost|gained] {dozens} "
        "percent this year.",
    ),
    _beat(
        BUSINESS,
        "{company} [to buy|bids for|drops bid for] {company2} / {company2} board [rejects|backs] {company} [offer|bid]",
        "{company} [agreed on {day} to buy|raised its offer for] {company2} for ${few}.{tenth} billion in [cash|cash "
        "and stock], [creating|in a deal to create] the [second|third]-largest [group|lender|chain] in the field. / "
        "The board of {company2} on {day} [rejected|accepted] [a bid|an offer] of ${hundreds} million from {company},"
        " [ending|opening] a race that [drew|beat off] {few} rivals.",
        "[Regulators|Shareholders] must still [approve|vote on] the deal. / The firms expect to save ${hundreds} "
        "million a year.",
    ),
    _beat(
        BUSINESS,
        "[Stocks|Shares] [slip|rally|end mixed] as {goods} [climbs|falls] / {goods} [hits|nears] {few}-year [high|low]",
        "Stocks [fell|rose|ended mixed] on {day} as the price of {goods} [hit a record|slid {few} percent] and "
        "[investors|traders] [waited for jobs data|took profits]. / The price of {goods} [climbed|dropped] {few} "
        "percent in {city} on {day} after [a strike|a storm|an attack] [hit|shut] [output|a pipeline|the main port].",
        "The index [closed at|lost] {hundreds} points. / Traders [expect|fear] a rise in interest rates.",
    ),
    _beat(
        BUSINESS,
        "{company} [to cut|axes] {hundreds} jobs / [Strike|Walkout] at {company} [ends|spreads]",
        "{company} said on {day} it would [cut {hundreds} jobs|close {few} plants] in {country} to [save money|win "
        "back investors], and unions [threatened to strike|called a rally]. / [Pilots|Workers] at {company} [voted to"
        " strike|accepted a pay cut] on {day}, a move that [may keep the carrier out of court|could cost it ${few} "
        "million a day].",
        "The firm has [lost money|cut its debt] for {few} quarters. / Bankruptcy protection [expires|was granted] in "
        "{few} weeks.",
    ),
    _beat(
        BUSINESS,
        "[Regulators|Prosecutors] [probe|fine] {company} / [Ex-chief|Founder] {person} [charged|cleared] in {company}"
        " case",
        "Former {company} chief {given} {person} [was charged|pleaded not guilty|took the stand] on {day} over "
        "[accounts|books] that hid ${hundreds} million of [debt|losses], [a court heard|prosecutors said]. / "
        "Regulators [fined|opened an inquiry into] {company} on {day} over [the sale of funds|insurance fees|late "
        "trading], [months|a year] after its auditor [quit|raised doubts].",
        "The company [admitted no wrong|set aside ${dozens} million]. / Investors [lost|recovered] most of their "
        "money.",
    ),
    _beat(
        SCI_TECH,
        "[Probe|Craft|Rover] [lands on|nears|snaps] [moon|red planet|comet] / Scientists [spot|map] [new "
        "planet|distant galaxy]",
        "A [probe|robot craft] [launched from {country}|built in {city}] [sent back|lost] its first "
        "[pictures|signals] on {day} from [the moon|a comet|the rings of a giant planet], scientists said. / "
        "Astronomers in {city} have [found|mapped] [a planet|a cluster of stars] {hundreds} light years away that "
        "[may hold water|is older than expected].",
        "The craft was shot into orbit in {year}. / The [signal|image] took {dozens} minutes to reach the team.",
    ),
    _beat(
        SCI_TECH,
        "[Worm|Virus|Flaw] [hits|spreads to] [home computers|mail servers] / [Patch|Fix] [due|out] for "
        "[browser|server] [hole|flaw]",
        "A [worm|virus] that [attacks|strikes] [mail servers|home computers] [spread|slowed] on {day}, and experts "
        "urged users to [install a patch|change their passwords]. / Researchers at {company} [warned|said] on {day} "
        "that a flaw in [a popular browser|file-sharing software] lets attackers [run code|read files] on {dozens} "
        "percent of machines.",
        "The code [opens a back door|mails itself to {hundreds} addresses]. / A new version of the software will "
        "[follow|ship] in {few} weeks.",
    ),
    _beat(
        SCI_TECH,
        "{company} [unveils|launches|shows] [thin|cheap|fast] {device} / {company} [adds|drops] [search|wireless] "
        "[tool|feature]",
        "{company} [unveiled|launched] a {device} on {day} with [a new chip|a wireless link|{dozens} hours of battery"
        " life], [months|weeks] before [rivals|{company2}]. / {company} [released|began testing] [search software|a "
        "web service] on {day} that lets users [find files|share photos|play games] on [a phone|any network].",
        "The {device} [runs open source software|holds {hundreds} songs]. / Engineers said the [chip|screen] uses "
        "{dozens} percent less power.",
    ),
    _beat(
        SCI_TECH,
        "[Study|Scientists]: {creature} [sing|navigate|adapt] [better|less] than thought / [Fossil|Gene|Ice] "
        "[find|study] [rewrites|backs] theory",
        "Scientists [tracking|studying] {creature} near {city} [found|reported on {day}] that [noise|warm water|a "
        "single gene] [changes how they move|cuts their numbers by {dozens} percent]. / [Bones|Ice cores|Cells] [dug "
        "up|tested] in {country} [show|suggest] that [the climate|early humans] [changed|moved] {hundreds} centuries "
        "sooner than the record had shown.",
        "The work appears in this week's [journal|issue]. / The team [tested|tagged] {hundreds} animals in the field.",
    ),
)

# Stories between two classes: much the same words, and the angle alone decides. Rules that have to be learnt.
CROSSOVER_BEATS: tuple[Beat, ...] = (
    _beat(
        BUSINESS,
        "{company} [signs|ends] {sport} deal / {city} {sport} club [up for sale|sold]",
        "{company} [will pay|paid] ${dozens} million to put its name on the {city} {sport} [stadium|league] for {few}"
        " seasons, [the club|the sponsor] said on {day}. / The owners of the {city} {sport} club [sold|put up for "
        "sale] their stake on {day} at a price of ${hundreds} million, as [ticket sales|television fees] [fell|rose].",
        "The club has debts of ${dozens} million. / Fans [protested|cheered] outside the [stadium|ground].",
    ),
    _beat(
        SPORTS,
        "{person} [signs|ends] {sport} deal / {city} {sport} club [wins|loses] {person}",
        "{given} {person} [signed|turned down] a deal worth ${dozens} million to play {sport} in {city} for {few} "
        "seasons, [the club|his agent] said on {day}. / The owners of the {city} {sport} club [fired|hired] coach "
        "{given} {person} on {day}, a gamble of ${few} million, as [ticket sales|results] [fell|rose].",
        "The club has debts of ${dozens} million. / Fans [protested|cheered] outside the [stadium|ground].",
    ),
    _beat(
        BUSINESS,
        "{device} sales [lift|sink] {company} / {company} [chip|software] unit [gains|slips]",
        "{company} [sold|shipped] {dozens} percent [more|fewer] units of its new {device} in the quarter, "
        "[lifting|cutting] profit at the [chip|software] maker, it said on {day}.",
        "{company2} makes the chip in the {device}. / The {device} went on sale in {few} countries.",
    ),
    _beat(
        SCI_TECH,
        "{device} maker {company} [shows|ships] [chip|software] / {company} [chip|software] [wins|loses] fans",
        "{company} [sold|shipped] the first of its new {device} line on {day}, which the [chip|software] maker "
        "[said|claims] runs {dozens} percent [faster|cooler] than the last.",
        "{company2} makes the chip in the {device}. / The {device} went on sale in {few} countries.",
    ),
    _beat(
        WORLD,
        "{country} [vows|plans] [rocket|satellite] [launch|test] / {country2} [protests|condemns] rocket test",
        "{country} [launched|test-fired] a rocket on {day} that [passed over|alarmed] {country2}, whose "
        "[leaders|ministers] called the launch [a threat|a breach of the treaty].",
        "The rocket was built in {city}. / The launch had been put off {few} times.",
    ),
    _beat(
        SCI_TECH,
        "{country} [plans|delays] [rocket|satellite] [launch|test] / [Weather|Fuel leak] delays rocket test",
        "{country} [launched|test-fired] a rocket on {day} that put [a satellite|an instrument] into orbit [to "
        "study|over] {country2}, whose engineers [built the motor|share the data].",
        "The rocket was built in {city}. / The launch had been put off {few} times.",
    ),
    _beat(
        WORLD,
        "{country} [bans|blocks] {goods} [trade|exports] / [Unrest|Protest] over {goods} in {city}",
        "{country} [banned|seized] shipments of {goods} from {country2} on {day} in a [dispute|row] that began when "
        "[troops|police] [closed the border|shot {few} miners].",
        "Prices of {goods} rose {few} percent. / A ship with {hundreds} tonnes was turned back.",
    ),
    _beat(
        BUSINESS,
        "{country} [lifts|cuts] {goods} [duty|exports] / [Glut|Shortage] of {goods} in {city}",
        "{country} [taxed|bought] shipments of {goods} from {country2} on {day} in a [dispute|row] that began when "
        "[growers|mills] [cut output|missed {few} payments].",
        "Prices of {goods} rose {few} percent. / A ship with {hundreds} tonnes was turned back.",
    ),
    _beat(
        WORLD,
        "[Security|Visa] row [clouds|hits] {sport} tour / {sport} [tour|final] moved after [threat|attack]",
        "{country} [police|troops] [arrested {teens} people|sealed off the stadium] on {day} after threats against "
        "the visiting {country2} {sport} team, [a minister|an official] said.",
        "The teams last met in {city} in {year}. / The match was to be played on {day}.",
    ),
    _beat(
        SPORTS,
        "[Selection|Umpire] row [clouds|hits] {sport} tour / {sport} [tour|final] moved after [rain|protest]",
        "{country} [fielders|forwards] [dropped {few} chances|ran riot in the stadium] on {day} after taunts against "
        "the visiting {country2} {sport} team, [a selector|an official] said.",
        "The teams last met in {city} in {year}. / The match was to be played on {day}.",
    ),
)
