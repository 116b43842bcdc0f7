package legacy

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/wire"
)

// requestBody is the body of a client of the original: a JSON object, or a form. Its texts are taken byte for byte.
type requestBody struct {
	object map[string]json.RawMessage
	form   url.Values
}

// readBody reads a body and also returns its bytes, even where they cannot be parsed. It is a form if the Content-Type
// says so, and JSON otherwise.
func (r *routes) readBody(c *gin.Context) (b requestBody, raw []byte, err error) {
	// An escape makes six bytes of one. Names, braces and a token are added to the text.
	raw, err = httpapi.ReadBody(c.Request, 6*int64(r.Node.Limits().RecordBytes)+httpapi.MaxSmallBody)
	if err != nil {
		return b, nil, err
	}
	// A type that cannot be parsed, or none, means JSON.
	mediaType, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if mediaType == "application/x-www-form-urlencoded" {
		if b.form, err = url.ParseQuery(string(raw)); err != nil {
			err = fmt.Errorf("%w: the body is not a form, as its Content-Type says", wire.ErrBadRequest)
		}
	} else if err = json.Unmarshal(raw, &b.object); err != nil {
		err = fmt.Errorf("%w: the body is not a JSON object", wire.ErrBadRequest)
	}
	return b, raw, err
}

// bareInfoForm is the body of the provenance application: a text, mostly JSON itself, between two quotes without
// escapes.
var bareInfoForm = regexp.MustCompile(`^\s*\{\s*"info"\s*:\s*"((?s:.*))"\s*\}\s*$`)

// bareInfo parses such a body, which is not JSON. The text is everything between the quotes.
func bareInfo(raw []byte) (requestBody, bool) {
	match := bareInfoForm.FindSubmatch(raw)
	if match == nil {
		return requestBody{}, false
	}
	return requestBody{form: url.Values{"info": {string(match[1])}}}, true
}

// text is the text of a name, "" where it is absent.
func (b requestBody) text(name string) (string, error) {
	if b.form != nil {
		return b.form.Get(name), nil
	}
	raw, ok := b.object[name]
	if !ok || string(raw) == "null" {
		return "", nil
	}
	if raw[0] != '"' {
		return "", fmt.Errorf("%w: %s must be a text", wire.ErrBadRequest, name)
	}
	return parseText(raw), nil
}

// flag is the boolean of a name, false where it is absent.
func (b requestBody) flag(name string) (bool, error) {
	value := string(b.object[name])
	if len(value) > 0 && value[0] == '"' || b.form != nil {
		value, _ = b.text(name) // a text: no error
	}
	switch value {
	case "true":
		return true, nil
	case "false", "null", "":
		return false, nil
	}
	return false, fmt.Errorf("%w: %s must be true or false", wire.ErrBadRequest, name)
}

// parseText is the bytes of a JSON string that encoding/json has found well-formed. Escapes become UTF-8. Half of a
// surrogate pair becomes the three bytes that its number would have in UTF-8 (WTF-8), so that it is not lost.
func parseText(raw []byte) string {
	raw = raw[1 : len(raw)-1]
	text := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			text = append(text, raw[i])
			continue
		}
		i++
		if raw[i] != 'u' {
			text = append(text, unescaped.Replace(string(raw[i]))...)
			continue
		}
		r := hex4(raw[i+1:])
		i += 4
		if next := raw[i+1:]; len(next) >= 6 && next[0] == '\\' && next[1] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(next[2:])); pair != utf8.RuneError {
				r = pair
				i += 6
			}
		}
		if utf16.IsSurrogate(r) {
			text = append(text, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f)
		} else {
			text = utf8.AppendRune(text, r)
		}
	}
	return string(text)
}

// unescaped replaces the letter of an escape by its character. A quote, a slash and a backslash stay.
var unescaped = strings.NewReplacer("b", "\b", "f", "\f", "n", "\n", "r", "\r", "t", "\t")

// hex4 reads the four digits of an escape.
func hex4(digits []byte) rune {
	n, _ := strconv.ParseUint(string(digits[:4]), 16, 16) // encoding/json has found four
	return rune(n)
}

// appendText adds a text as a JSON string from which parseText makes the same bytes. All bytes stay as they are,
// except those that JSON must escape and halves of surrogate pairs. A second half after a first one is not escaped,
// since the two escapes would be one character.
func appendText(dst, text []byte) []byte {
	dst = append(dst, '"')
	first := -1 // the position after the first half that was escaped last
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b < ' ':
			dst = fmt.Appendf(dst, `\u%04x`, b)
		case b == 0xed && i+2 < len(text) && text[i+1]&0xe0 == 0xa0 && text[i+2]&0xc0 == 0x80:
			r := 0xd000 | rune(text[i+1]&0x3f)<<6 | rune(text[i+2]&0x3f)
			if second := r >= 0xdc00; second && i == first {
				dst = append(dst, text[i:i+3]...)
			} else {
				dst = fmt.Appendf(dst, `\u%04x`, r)
				if !second {
					first = i + 3
				}
			}
			i += 2
		default:
			dst = append(dst, b)
		}
	}
	return append(dst, '"')
}
