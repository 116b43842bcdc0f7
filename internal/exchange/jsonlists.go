package exchange

import "fmt"

// Limits of JSON in an answer. An empty element of a list takes two bytes and may be decoded to hundreds. The largest
// lists have one element for each record of a batch.
const (
	maxElements = 1 << 17
	maxDepth    = 1000
)

// CheckLists returns an error that wraps [ErrAnswer] if a text of JSON would take too much memory when it is decoded:
// its lists have too many elements together, or are nested too deeply. It does not check that the text is JSON.
func CheckLists(text []byte) error {
	elements := 0
	lists := make([]bool, 0, 16) // the open lists and objects; true for a list
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			if len(lists) == maxDepth {
				return fmt.Errorf("%w: its JSON is nested more than %d deep", ErrAnswer, maxDepth)
			}
			lists = append(lists, text[i] == '[')
		case ']', '}':
			lists = lists[:max(0, len(lists)-1)]
		case ',':
			if len(lists) > 0 && lists[len(lists)-1] {
				elements++
			}
		}
		if elements > maxElements {
			return fmt.Errorf("%w: its JSON has lists of more than %d elements", ErrAnswer, maxElements)
		}
	}
	return nil
}
