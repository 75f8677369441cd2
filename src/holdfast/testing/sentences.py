"""Everyday sentences in many languages, and questions that each answers, for cases of recall.

Five or six sentences of one language tell of the same things, so that each is a distractor of
the others. A question is written as people type: without accents or points, in capitals, in
another inflection, with one character where that is a word.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Language(NamedTuple):
    """Sentences, and questions with the number of the sentence that answers."""

    sentences: tuple[str, ...]
    questions: dict[str, int]


LANGUAGES: Final = {
    "Chinese": Language(
        (
            "我的狗每天晚上睡在沙发上。",
            "我星期二要去看牙医。",
            "我姐姐在巴黎的一家医院工作。",
            "他喝咖啡不加糖。",
            "我们的汽车二〇二五年坏了，修理花了３００元。",
        ),
        {"狗": 0, "狗睡在哪里？": 0, "牙医是哪天": 1, "姐姐在哪里工作": 2, "糖": 3, "300元": 4},
    ),
    "Chinese, traditional": Language(
        (
            "我們家的貓每天晚上睡在沙發上。",
            "我星期二要去看牙醫。",
            "我姊姊在臺北的醫院工作。",
            "他喝綠茶不加糖。",
            "我們的車上個月壞了。",
        ),
        {"貓睡在哪裡": 0, "牙醫": 1, "臺北醫院": 2, "茶": 3, "車壞了嗎": 4},
    ),
    "Japanese": Language(
        (
            "うちの猫は毎晩ソファーで眠ります。",
            "火曜日に歯医者の予約があります。",
            "姉はパリの病院で働いています。",
            "彼はコーヒーに砂糖を入れません。",
            "先月、車が故障しました。",
        ),
        {"猫はどこで眠るの": 0, "ソファー": 0, "歯医者の予約はいつ": 1, "ｺｰﾋｰ": 3, "車": 4},
    ),
    "Korean": Language(
        (
            "우리 고양이는 매일 밤 소파에서 잔다.",
            "화요일에 치과 예약이 있다.",
            "언니는 파리의 병원에서 일한다.",
            "그는 커피에 설탕을 넣지 않는다.",
            "지난달에 차가 고장 났다.",
        ),
        {"고양이가 어디서 자나요": 0, "치과 예약은 언제": 1, "병원": 2, "커피": 3, "차": 4},
    ),
    "Thai": Language(
        (
            "แมวของฉันนอนบนโซฟาทุกคืน",
            "ฉันมีนัดกับหมอฟันวันอังคาร",
            "พี่สาวของฉันทำงานที่โรงพยาบาลในปารีส",
            "เขาดื่มกาแฟไม่ใส่น้ำตาล",
            "รถของเราเสียเมื่อปี ๒๕๖๗",
        ),
        {"แมวนอนที่ไหน": 0, "หมอฟัน": 1, "โรงพยาบาล": 2, "กาแฟใส่น้ำตาลไหม": 3, "ปี 2567": 4},
    ),
    "Lao": Language(
        (
            "ແມວຂອງຂ້ອຍນອນຢູ່ເທິງໂຊຟາທຸກຄືນ",
            "ຂ້ອຍມີນັດກັບໝໍແຂ້ວວັນອັງຄານ",
            "ເອື້ອຍຂອງຂ້ອຍເຮັດວຽກຢູ່ໂຮງຮຽນ",
            "ລາວດື່ມກາເຟບໍ່ໃສ່ນ້ຳຕານ",
            "ລົດຂອງພວກເຮົາເພເມື່ອເດືອນກ່ອນ",
        ),
        {"ແມວນອນຢູ່ໃສ": 0, "ໝໍແຂ້ວ": 1, "ໂຮງຮຽນ": 2, "ກາເຟ": 3},
    ),
    "Khmer": Language(
        (
            "ឆ្មារបស់ខ្ញុំដេកលើសាឡុងរាល់យប់",
            "ខ្ញុំមានណាត់ជាមួយពេទ្យធ្មេញនៅថ្ងៃអង្គារ",
            "បងស្រីខ្ញុំធ្វើការនៅសាលារៀន",
            "គាត់ផឹកកាហ្វេមិនដាក់ស្ករ",
            "ឡានរបស់យើងខូចកាលពីខែមុន",
        ),
        {"ឆ្មាដេកនៅឯណា": 0, "ពេទ្យធ្មេញ": 1, "សាលារៀន": 2, "កាហ្វេ": 3},
    ),
    "Burmese": Language(
        (
            "ကျွန်မရဲ့ကြောင်က ညတိုင်း ဆိုဖာပေါ်မှာ အိပ်တယ်",
            "အင်္ဂါနေ့မှာ သွားဆရာဝန်နဲ့ ချိန်းထားတယ်",
            "အစ်မက ဆေးရုံမှာ အလုပ်လုပ်တယ်",
            "သူက ကော်ဖီကို သကြားမထည့်ဘဲ သောက်တယ်",
            "ကားက ပြီးခဲ့တဲ့လက ပျက်သွားတယ်",
        ),
        {"ကြောင်က ဘယ်မှာအိပ်လဲ": 0, "သွားဆရာဝန်": 1, "ဆေးရုံ": 2, "ကော်ဖီ": 3},
    ),
    "Arabic": Language(
        (
            "قطتي تنام على الأريكة كل ليلة.",
            "عندي موعد مع طبيب الأسنان يوم الثلاثاء.",
            "أختي تعمل في مستشفى في باريس منذ ٢٠٢٣.",
            "يشرب أحمد القهوة بدون سكر.",
            "تعطلت سيارتنا في الشهر الماضي.",
        ),
        {
            "أين تنام القطة؟": 0,
            "موعد طبيب الاسنان": 1,
            "مستشفى ۲۰۲۳": 2,
            "قَهْوَةُ احمد": 3,
            "ســيــارة": 4,
        },
    ),
    "Hebrew": Language(
        (
            "החתול שלי ישן על הספה כל לילה.",
            "יש לי תור לרופא השיניים ביום שלישי.",
            "אחותי עובדת בבית חולים בפריז.",
            "הוא שותה קפה בלי סוכר.",
            "המכונית שלנו התקלקלה בחודש שעבר.",
        ),
        {"איפה ישן חתול": 0, "רופא שיניים": 1, "פריז": 2, "קָפֶה": 3, "והמכונית": 4},
    ),
    "Persian": Language(
        (
            "گربه‌ام هر شب روی مبل می‌خوابد.",
            "سه‌شنبه نوبت دندان‌پزشکی دارم.",
            "خواهرم در بیمارستانی در پاریس کار می‌کند.",
            "او قهوه را بدون شکر می‌نوشد.",
            "ماشین ما ماه گذشته خراب شد.",
        ),
        {"گربه كجا مي خوابد": 0, "نوبت دندان پزشكي": 1, "قهوه با شكر": 3, "ماشین": 4},
    ),
    "Urdu": Language(
        (
            "میری بلی ہر رات صوفے پر سوتی ہے۔",
            "منگل کو دانتوں کے ڈاکٹر سے ملنا ہے۔",
            "میری بہن لاہور کے ہسپتال میں کام کرتی ہے۔",
            "وہ چائے میں چینی نہیں ڈالتا۔",
            "پچھلے مہینے ہماری گاڑی خراب ہو گئی۔",
        ),
        {"بلی کہاں سوتی ہے": 0, "لاہور ہسپتال": 2, "چائے": 3, "گاڑی": 4},
    ),
    "Hindi": Language(
        (
            "मेरी बिल्ली हर रात सोफ़े पर सोती है।",
            "मंगलवार को मुझे दाँतों के डॉक्टर के पास जाना है।",
            "मेरी माँ पेरिस के अस्पताल में काम करती हैं।",
            "वह बिना चीनी की कॉफ़ी पीता है।",
            "उसने २०२४ में दो किताबें लिखीं।",
        ),
        {"बिल्लियाँ कहाँ": 0, "डॉक्टर": 1, "माँ": 2, "कॉफ़ी में चीनी": 3, "किताब 2024": 4},
    ),
    "Bengali": Language(
        (
            "আমার বিড়াল প্রতি রাতে সোফায় ঘুমায়।",
            "মঙ্গলবার আমার দাঁতের ডাক্তারের কাছে যাওয়ার কথা।",
            "আমার বোন প্যারিসের একটি হাসপাতালে কাজ করে।",
            "সে চিনি ছাড়া কফি খায়।",
            "২০২৪ সালে আমাদের গাড়ি নষ্ট হয়ে গেছে।",
        ),
        {"বিড়াল কোথায় ঘুমায়": 0, "দাঁতের ডাক্তার": 1, "হাসপাতালে": 2, "কফি": 3, "২০২৪ সালে": 4},
    ),
    "Tamil": Language(
        (
            "என் பூனை ஒவ்வொரு இரவும் சோபாவில் தூங்குகிறது.",
            "செவ்வாய்க்கிழமை பல் மருத்துவரைப் பார்க்க வேண்டும்.",
            "என் அக்கா பாரிஸில் ஒரு பள்ளியில் வேலை செய்கிறாள்.",
            "அவர் சர்க்கரை இல்லாமல் காபி குடிக்கிறார்.",
            "நான் இரண்டு புத்தகங்கள் வாங்கினேன்.",
        ),
        {"பூனை எங்கே தூங்குகிறது": 0, "மருத்துவர்": 1, "காபி": 3, "புத்தகம்": 4},
    ),
    "Russian": Language(
        (
            "Моя кошка каждую ночь спит на диване.",
            "Во вторник у меня приём у зубного врача.",
            "Моя сестра работает в больнице в Париже.",
            "Он пьёт кофе без сахара.",
            "В прошлом месяце сломалась наша машина.",
        ),
        {"где кошки": 0, "ЗУБНОЙ ВРАЧ": 1, "больница": 2, "пьет с сахаром": 3, "маши\u0301ны": 4},
    ),
    "Ukrainian": Language(
        (
            "Моя кішка щоночі спить на дивані.",
            "У вівторок я маю прийом у зубного лікаря.",
            "Моя сестра працює в лікарні у Львові.",
            "Він п'є каву без цукру.",
            "Минулого місяця зламався наш автомобіль.",
        ),
        {"де спить кішка": 0, "у вівторок": 1, "Львові": 2, "кава з цукром": 3},
    ),
    "Greek": Language(
        (
            "Η γάτα μου κοιμάται κάθε βράδυ στον καναπέ.",
            "Την Τρίτη έχω ραντεβού με τον οδοντίατρο.",
            "Η αδερφή μου δουλεύει σε νοσοκομείο στο Παρίσι.",
            "Πίνει τον καφέ του χωρίς ζάχαρη.",
            "Τον περασμένο μήνα χάλασε το αυτοκίνητό μας.",
        ),
        {"ΠΟΥ ΚΟΙΜΑΤΑΙ Η ΓΑΤΑ": 0, "ραντεβου": 1, "νοσοκομείο": 2, "καφες με ζαχαρη": 3},
    ),
    "Turkish": Language(
        (
            "Kedim her gece koltukta uyuyor.",
            "Salı günü diş hekimine randevum var.",
            "Ablam İstanbul'da bir hastanede çalışıyor.",
            "Kahvesini şekersiz içiyor.",
            "Işıkları kapatmayı unutma.",
        ),
        {"SALI günü": 1, "dis hekimine": 1, "istanbul": 2, "ISTANBUL": 2, "isiklari": 4},
    ),
    "German": Language(
        (
            "Meine Katze schläft jede Nacht auf dem Sofa.",
            "Am Dienstag habe ich einen Termin beim Zahnarzt.",
            "Meine Schwester arbeitet in einem Krankenhaus in München.",
            "Er trinkt Kaffee ohne Zucker.",
            "Unser Auto blieb in der Hauptstraße liegen.",
        ),
        {"wo schlaft die katze": 0, "Zahnarzt": 1, "Munchen": 2, "HAUPTSTRASSE": 4},
    ),
    "French": Language(
        (
            "Mon chat dort chaque nuit sur le canapé.",
            "J’ai rendez-vous chez le dentiste mardi.",
            "Ma sœur travaille dans un hôpital à Paris.",
            "Il boit son café sans sucre.",
            "Notre voiture est tombée en panne l’été dernier.",
        ),
        {"CANAPE": 0, "dentiste": 1, "hopital de ma soeur": 2, "cafe\u0301": 3, "d'été": 4},
    ),
    "Spanish": Language(
        (
            "Mi gato duerme todas las noches en el sofá.",
            "El martes tengo cita con el dentista.",
            "Mi hermana trabaja en un hospital de Córdoba.",
            "Él toma el café sin azúcar.",
            "Nuestro coche se averió el mes pasado.",
        ),
        {"¿dónde duermen los gatos?": 0, "cordoba": 2, "cafe con azucar": 3, "averio": 4},
    ),
    "Polish": Language(
        (
            "Mój kot śpi co noc na kanapie.",
            "We wtorek mam wizytę u dentysty.",
            "Moja siostra pracuje w szpitalu w Łodzi.",
            "Pije kawę bez cukru.",
            "W zeszłym miesiącu zepsuł się nasz samochód.",
        ),
        {"kot spi": 0, "wizyte u dentysty": 1, "lodzi": 2, "kawe": 3, "samochod": 4},
    ),
    "Vietnamese": Language(
        (
            "Con mèo của tôi ngủ trên ghế sô pha mỗi đêm.",
            "Thứ ba tôi có hẹn với nha sĩ.",
            "Chị tôi làm việc ở bệnh viện tại Đà Nẵng.",
            "Anh ấy uống cà phê không đường.",
            "Tháng trước xe của chúng tôi bị hỏng.",
        ),
        {"con mèo ngủ ở đâu": 0, "nha si": 1, "benh vien da nang": 2, "ca phe": 3, "xe hỏng": 4},
    ),
    "mixed": Language(
        (
            "昨日 Kubernetes の deploy が失敗した 🚀",
            "Встреча по проекту Zephyr перенесена на 5 мая",
            "Zoë mag K-pop und 떡볶이 😋",
            "הפגישה עם Dr. Müller ב-3 במאי",
            "मुझे Python में coding पसंद है 🐍",
        ),
        {"kubernetes 失敗": 0, "встречи Zephyr": 1, "떡볶이": 2, "muller": 3, "PYTHON पसंद": 4},
    ),
}
