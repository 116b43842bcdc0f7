package masterapi

import (
	"math"
	"mime"
	"slices"
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/wire"
)

// typeText is the media type with which a client asks for a proof as text.
const typeText = "text/plain"

// wantsText reports whether an Accept header prefers plain text to JSON.
func wantsText(accept string) bool { return preferred(accept, typeJSON, typeText) == typeText }

// wantsJSON reports whether an Accept header prefers a record's envelope to its payload, which has a media type of its
// own.
func wantsJSON(accept, payload string) bool {
	media, _, err := mime.ParseMediaType(payload)
	if err != nil || media == typeJSON { // JSON means the envelope, even if the payload is JSON too
		media = wire.TypeOctets
	}
	return preferred(accept, media, typeJSON) == typeJSON
}

// preferred is the offer that an Accept header prefers (RFC 9110, section 12.5.1): the one of the highest quality, and
// of several such offers the one that the header names first. It is the first offer where the header does not decide,
// or accepts none.
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

// acceptance is the quality that an Accept header gives to a media type, 0 for none, and the position of the range
// that decides: of all ranges that include the type, the narrowest. Ranges that cannot be parsed are skipped.
func acceptance(accept, media string) (quality float64, place int) {
	kind, _, _ := strings.Cut(media, "/")
	narrowest := 0
	for i, field := range strings.Split(accept, ",") {
		accepted, params, err := mime.ParseMediaType(field)
		if err != nil {
			continue
		}
		narrow := 1 + slices.Index([]string{"*/*", kind + "/*", media}, accepted) // 0 if it does not include media
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
