package wire

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// TestCodesAreDocumented checks that docs/codes.md lists each code once, with its arguments, and no other code.
func TestCodesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/codes.md")
	if err != nil {
		t.Fatal(err)
	}
	lists, _, _ := strings.Cut(string(page), "\n## Events")
	quoted := regexp.MustCompile("`([a-z-]+)`")
	documented := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^- `([a-z-]+)`([^:]*):").FindAllStringSubmatch(lists, -1) {
		if _, twice := documented[row[1]]; twice {
			t.Errorf("%s is there twice", row[1])
		}
		documented[row[1]] = []string{}
		for _, arg := range quoted.FindAllStringSubmatch(row[2], -1) {
			documented[row[1]] = append(documented[row[1]], arg[1])
		}
	}
	for _, c := range Codes {
		args, there := documented[c.Name]
		want := slices.Sorted(slices.Values(c.Args()))
		if slices.Sort(args); !there || !slices.Equal(args, want) {
			t.Errorf("%s is documented with the arguments %q, it has %q", c.Name, args, want)
		}
		delete(documented, c.Name)
	}
	if len(documented) > 0 {
		t.Errorf("there are no such codes: %v", documented)
	}
}

func TestCodesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Codes {
		if seen[c.Name] || c.English == "" || !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(c.Name) {
			t.Errorf("%+v", c)
		}
		seen[c.Name] = true
	}
}

func TestMessageText(t *testing.T) {
	lost := []chain.Range{{From: 1, To: 2}, {From: 4, To: 7}}
	for want, m := range map[string]Message{
		"":                          {},
		"damaged: blocks 1, 4 to 6": {Code: CodeDamaged, Args: Args{"blocks": uint64(4), "ranges": lost}},
		"damaged: block 1":          {Code: CodeDamaged, Args: Args{"blocks": uint64(1), "ranges": lost[:1]}},
		"storage node s is invalid: blocks from 0 on could not be checked": {
			Code: CodeStorageInvalid, Args: Args{"node": "s",
				"cause": Message{Code: CodeUnchecked, Args: Args{"block": uint64(0)}}},
		},
		"the log gets its first key once all masters have announced that they know log keys: " +
			"start a, b with this version, or remove them": {
			Code: CodeLogKeyWaits, Args: Args{"nodes": []string{"a", "b"}},
		},
		"of-a-newer-version: disk": {Code: "of-a-newer-version", Args: Args{"detail": "disk"}},
		"of-a-newer-version":       {Code: "of-a-newer-version"},
	} {
		if got := m.Text(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		data, err := json.Marshal(m)
		var back Message
		if err != nil || json.Unmarshal(data, &back) != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%s: %+v, %v", data, back, err)
		}
	}
	for _, data := range []string{`{"code":"x","args":{"a":-1}}`, `{"code":"x","args":{"a":true}}`,
		`{"code":"x","args":{"a":[1]}}`, `{"code":"x","args":[]}`} {
		var m Message
		if json.Unmarshal([]byte(data), &m) == nil {
			t.Errorf("%s is read as %+v", data, m)
		}
	}
}

func TestRangesText(t *testing.T) {
	many := make([]chain.Range, 9)
	for i := range many {
		many[i] = chain.Range{From: uint64(2 * i), To: uint64(2*i + 1)}
	}
	for want, list := range map[string][]chain.Range{
		"": nil, "7": {{From: 7, To: 8}}, "7 to 8": {{From: 7, To: 9}}, "0, 2, 4, 6, 8, 10, and 3 more ranges": many,
	} {
		if got := RangesText(list); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
