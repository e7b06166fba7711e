"""Article 1 of the Universal Declaration of Human Rights (UN 1948).

The same sentence in scripts and word forms that tokenizers treat unequally.
"""

ARTICLE_1 = {
  "english": (
    "All human beings are born free and equal in dignity and rights. They are"
    " endowed with reason and conscience and should act towards one another in"
    " a spirit of brotherhood."
  ),
  "spanish": (
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos y,"
    " dotados como están de razón y conciencia, deben comportarse"
    " fraternalmente los unos con los otros."
  ),
  "french": (
    "Tous les êtres humains naissent libres et égaux en dignité et en droits."
    " Ils sont doués de raison et de conscience et doivent agir les uns envers"
    " les autres dans un esprit de fraternité."
  ),
  "german": (
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind"
    " mit Vernunft und Gewissen begabt und sollen einander im Geist der"
    " Brüderlichkeit begegnen."
  ),
  "finnish": (
    "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja"
    " oikeuksiltaan. Heille on annettu järki ja omatunto, ja heidän on"
    " toimittava toisiaan kohtaan veljeyden hengessä."
  ),
  "turkish": (
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve"
    " vicdana sahiptirler ve birbirlerine karşı kardeşlik zihniyeti ile hareket"
    " etmelidirler."
  ),
  "swahili": (
    "Watu wote wamezaliwa huru, hadhi na haki zao ni sawa. Wote wamejaliwa"
    " akili na dhamiri, hivyo yapasa watendeane kindugu."
  ),
  "vietnamese": (
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và"
    " quyền lợi. Mọi con người đều được tạo hóa ban cho lý trí và lương tâm và"
    " cần phải đối xử với nhau trong tình anh em."
  ),
  "russian": (
    "Все люди рождаются свободными и равными в своем достоинстве и правах. Они"
    " наделены разумом и совестью и должны поступать в отношении друг друга в"
    " духе братства."
  ),
  "arabic": (
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق، وقد وهبوا عقلاً"
    " وضميرًا وعليهم أن يعامل بعضهم بعضًا بروح الإخاء."
  ),
  "hindi": (
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और"
    " समानता प्राप्त है। उन्हें बुद्धि और अन्तरात्मा की देन प्राप्त है और परस्पर"
    " उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।"
  ),
  "korean": (
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다."
    " 인간은 천부적으로 이성과 양심을 부여받았으며 서로 형제애의 정신으로"
    " 행동하여야 한다."
  ),
  "chinese": (
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，"
    "并应以兄弟关系的精神相对待。"
  ),
  "japanese": (
    "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて"
    "平等である。人間は、理性と良心とを授けられており、互いに同胞の精神をもって"
    "行動しなければならない。"
  ),
}

# Written without spaces between words: counted by characters.
WITHOUT_SPACES = ("chinese", "japanese")
