package masterapi

import (
	"math"
	"mime"
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/wire"
)

// typeText is the media type with which a client asks for a proof as text.
const typeText = "text/plain"

// wantsText reports whether who accepts those types would rather have plain text than JSON.
func wantsText(accept string) bool { return preferred(accept, typeJSON, typeText) == typeText }

// wantsJSON reports whether who accepts those types would rather have a record's envelope than its payload, which has a type of its own.
func wantsJSON(accept, payload string) bool {
	media, _, err := mime.ParseMediaType(payload)
	if err != nil || media == typeJSON { // who names JSON means the envelope, also where the payload is JSON
		media = wire.TypeOctets
	}
	return preferred(accept, media, typeJSON) == typeJSON
}

// preferred is the offer that an Accept header likes best (RFC 9110, section 12.5.1): the one of the highest quality, of several such the one that the
// header names first, and else the first offer, which also goes to who accepts none of them.
func preferred(accept string, offers ...string) string {
	best, bestQuality, bestPlace := offers[0], 0.0, math.MaxInt
	for _, offer := range offers {
		quality, place := acceptance(accept, offer)
		if quality > bestQuality || quality == bestQuality && quality > 0 && place < bestPlace {
			best, bestQuality, bestPlace = offer, quality, place
		}
	}
	return best
}

// acceptance is the quality that an Accept header gives to a media type, 0 for none, and the place of what it says that by: of all ranges with the type
// in them the narrowest counts. What cannot be read is passed over.
func acceptance(accept, media string) (quality float64, place int) {
	kind, _, _ := strings.Cut(media, "/")
	narrowest := 0
	for i, field := range strings.Split(accept, ",") {
		accepted, params, err := mime.ParseMediaType(field)
		if err != nil {
			continue
		}
		narrow := 0
		switch accepted {
		case media:
			narrow = 3
		case kind + "/*":
			narrow = 2
		case "*/*":
			narrow = 1
		}
		if narrow <= narrowest {
			continue
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil || !(q >= 0 && q <= 1) {
				continue
			}
		}
		narrowest, quality, place = narrow, q, i
	}
	return quality, place
}
