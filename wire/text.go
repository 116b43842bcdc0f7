package wire

import (
	"fmt"
	"strings"
)

// CheckText refuses control characters, bytes below 0x20 and 0x7f, in a text that a user gives: a record's key or
// type, or a name. what names the text in the error. A key and a type become header fields, and a response with a
// control character in one is not valid HTTP (RFC 9110, section 5.5): a proxy then considers the master broken.
//
// It is for requests of users only. Records that are older than this rule have such texts: they are replayed,
// forwarded between masters, read and verified unchanged.
func CheckText(what, text string) error {
	if at := controlAt(text); at >= 0 {
		return fmt.Errorf("%s has the control character 0x%02x at byte %d: remove or encode it", what, text[at], at)
	}
	return nil
}

// CheckRecordText is CheckText of the key and the type of a record that a user appends.
func CheckRecordText(key, typ string) error {
	if err := CheckText("the key", key); err != nil {
		return err
	}
	return CheckText("the type", typ)
}

// FitsHeader reports whether a header field carries a text unchanged: the text has no control character, and no space
// at its ends, which a recipient removes.
func FitsHeader(text string) bool {
	return controlAt(text) < 0 && strings.Trim(text, " ") == text
}

// controlAt is the index of the first control character, or -1.
func controlAt(text string) int {
	for i := range len(text) {
		if text[i] < ' ' || text[i] == 0x7f {
			return i
		}
	}
	return -1
}

// MaxStreamID is the length of the longest id of an append stream.
const MaxStreamID = 64

// OwnStreamID is what the ids of append streams begin with that masters make. A client can continue such a stream. Only
// a master begins one.
const OwnStreamID = "_"

const streamIDCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_"

// CheckStreamID checks the id of an append stream: 1 to [MaxStreamID] letters, digits, dots, hyphens and underscores of
// ASCII. The error wraps [ErrBadRequest].
func CheckStreamID(id string) error {
	if id == "" || len(id) > MaxStreamID || strings.Trim(id, streamIDCharacters) != "" {
		return fmt.Errorf("%w: %q is not the id of an append stream: it has 1 to %d letters, digits, \".\", \"-\" and "+
			"\"_\"", ErrBadRequest, id, MaxStreamID)
	}
	return nil
}
