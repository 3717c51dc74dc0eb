"""Words that the made-up data of the learning platform is put together from."""

from __future__ import annotations

# code, name, time zone
ORGANIZATIONS = [
    ("acme", "Acme Academy", "Europe/Warsaw"),
    ("globex", "Globex College", "America/New_York"),
    ("initech", "Initech Training", "America/Chicago"),
    ("umbra", "Umbra Summer School", "Europe/Rome"),
    ("vandelay", "Vandelay Institute", "Europe/Amsterdam"),
    ("hooli", "Hooli Open University", "America/Los_Angeles"),
    ("wonka", "Wonka School of Craft", "Europe/London"),
    ("tyrell", "Tyrell Evening Classes", "Asia/Tokyo"),
    ("oscorp", "Oscorp Polytechnic", "America/Toronto"),
    ("sirius", "Sirius Language School", "Europe/Madrid"),
    ("monarch", "Monarch Field Courses", "Asia/Seoul"),
    ("duff", "Duff Brewing Seminars", "Europe/Prague"),
]

FIRST_NAMES = """
Ada Alan Alice Amara Anders Anna Antoni Ben Bianca Bruno Camila Carmen Chen Clara Daniel Diego Dorota
Elena Elif Emil Emma Erik Esther Farid Fatima Felix Finn Gabriel Grace Greta Hana Hannah Hugo Ida Igor
Ines Ingrid Isaac Jan Jasmin Joanna Jonas José Julia Kamil Karin Kenji Lara Laura Leon Liam Lina Łucja
Luis Maja Marco Marta Mateo Maya Mei Mila Nadia Nils Nina Noah Nora Olga Oliver Omar Oskar Paula Pavel
Petra Priya Rafael Rania Rosa Samir Sara Sofia Stefan Tariq Tessa Thomas Uma Vera Viktor Wanda Yara Yuki
Zofia
""".split()  # noqa: SIM905

LAST_NAMES = """
Abbott Adeyemi Ahmed Almeida Andersen Baker Bauer Becker Bianchi Blum Brandt Carter Castro Chen Cohen
Costa Dąbrowska Diaz Dubois Eriksen Fernandes Fischer Fontaine Garcia Gomez Greco Haddad Hansen Hayashi
Hoffmann Horvat Hughes Ibarra Ivanova Jansen Johansson Jones Kamara Kaplan Keller Khan Kim Kowalska Kovacs
Krause Laurent Lewis Lindberg Lopez Maier Marino Martin Mazur Mendes Meyer Molina Moreau Mori Murphy Nagy
Nakamura Nielsen Novak Nowak Okafor Olsen Ortega Osman Park Patel Pereira Petrov Quinn Ramos Reyes Ricci
Rossi Roy Saito Santos Sato Schmidt Silva Singh Smith Stone Svensson Tanaka Taylor Torres Turner Vargas
Virtanen Wagner Walsh Weber Wilson Wójcik Yildiz Young Zhang Zieliński
""".split()  # noqa: SIM905

MAIL_DOMAINS = ["example.org", "example.com", "example.net", "mail.example.org", "post.example.com"]

HEADLINES = [
    "Learning something new every week",
    "Engineer by day, reader by night",
    "Back to school after ten years",
    "Teacher, parent, curious person",
    "Changing careers",
    "Here for the certificates",
    "",
]

LANGUAGES = ["en", "de", "pl", "es", "fr", "it", "ja", "pt"]

# the tree of the platform's own categories: code, name, parent's code
CATEGORIES = [
    ("science", "Science", None),
    ("science.physics", "Physics", "science"),
    ("science.physics.astronomy", "Astronomy", "science.physics"),
    ("science.biology", "Biology", "science"),
    ("science.biology.botany", "Botany", "science.biology"),
    ("technology", "Technology", None),
    ("technology.programming", "Programming", "technology"),
    ("technology.programming.databases", "Databases", "technology.programming"),
    ("technology.security", "Security", "technology"),
    ("humanities", "Humanities", None),
    ("humanities.history", "History", "humanities"),
    ("humanities.philosophy", "Philosophy", "humanities"),
    ("languages", "Languages", None),
    ("languages.japanese", "Japanese", "languages"),
    ("arts", "Arts", None),
    ("arts.music", "Music", "arts"),
    ("arts.drawing", "Drawing", "arts"),
    ("business", "Business", None),
    ("business.accounting", "Accounting", "business"),
    ("business.leadership", "Leadership", "business"),
]

# an organization's own categories: code and name, parent's code (both without the organization's)
OWN_CATEGORIES = [
    ("staff", "Staff training", None),
    ("staff.onboarding", "Onboarding", "staff"),
    ("staff.safety", "Health and safety", "staff"),
    ("alumni", "Alumni", None),
]

TAGS = """
beginner intermediate advanced evening weekend online on-site self-paced certificate free seminar
laboratory project group-work reading video audio accessible english multilingual
""".split()  # noqa: SIM905

# code, subject, category
SUBJECTS = [
    ("AST", "Astronomy", "science.physics.astronomy"),
    ("MEC", "Mechanics", "science.physics"),
    ("BOT", "Botany", "science.biology.botany"),
    ("GEN", "Genetics", "science.biology"),
    ("PYT", "Python", "technology.programming"),
    ("SQL", "SQL", "technology.programming.databases"),
    ("NET", "Network Security", "technology.security"),
    ("CRY", "Cryptography", "technology.security"),
    ("ROM", "Roman History", "humanities.history"),
    ("MED", "Medieval Cities", "humanities.history"),
    ("LOG", "Logic", "humanities.philosophy"),
    ("ETH", "Ethics", "humanities.philosophy"),
    ("JPN", "Japanese", "languages.japanese"),
    ("LIN", "Linguistics", "languages"),
    ("HAR", "Harmony", "arts.music"),
    ("CHO", "Choir", "arts.music"),
    ("POR", "Portrait Drawing", "arts.drawing"),
    ("ACC", "Bookkeeping", "business.accounting"),
    ("LEA", "Leading Teams", "business.leadership"),
    ("NEG", "Negotiation", "business"),
]

# number in the course's code, title around the subject
LEVELS = [
    (101, "Introduction to {}"),
    (120, "{} in Practice"),
    (201, "{} for Professionals"),
    (240, "{} Workshop"),
    (301, "Advanced {}"),
    (390, "{}: Research Seminar"),
]

LESSONS = [
    "Welcome and orientation",
    "Where {} comes from",
    "Key terms",
    "A first example",
    "Tools of the trade",
    "Common mistakes",
    "A worked case",
    "Working in pairs",
    "Open questions in {}",
    "Review and exam",
]

TEAMS = ["Library", "Mentors", "Film club", "Study group", "Student council", "Chess club", "Open lab"]

FUNCTIONS = ["member", "secretary", "treasurer", "coach", "chair"]

COMMENT_OPENINGS = [
    "Thank you for this,",
    "I was lost at first, but",
    "Great pace:",
    "One question:",
    "For everybody who comes later:",
    "Honestly,",
    "Second time here, and",
]

COMMENT_BODIES = [
    "the example in the middle made it clear.",
    "could the slides also be shared as a PDF?",
    "the sound drops for a few seconds near the end.",
    "I would have liked more exercises.",
    "the reading list alone is worth it.",
    "is the second formula missing a sign?",
    "take notes, the exam asks for details.",
    "our group meets on Thursdays, come along!",
]

AUDIT_ACTIONS = [
    "organization created",
    "contract signed",
    "logo changed",
    "storage quota raised",
    "invoice sent",
    "support call answered",
]
