package wire

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCheckText(t *testing.T) {
	for b := range 0x100 {
		text := "ab" + string([]byte{byte(b)}) + "c"
		err := CheckText("the key", text)
		if control := b < 0x20 || b == 0x7f; control != (err != nil) || control == FitsHeader(text) {
			t.Errorf("0x%02x: %v, fits a header: %v", b, err, FitsHeader(text))
		}
	}
	err := CheckText("the type", "text/\x7fplain\x00")
	if err == nil || !strings.Contains(err.Error(), "the type has the control character 0x7f at byte 5") {
		t.Error(err)
	}
	for _, text := range []string{"", "a b", " ", "tür/门"} {
		if err := CheckText("the key", text); err != nil {
			t.Error(err)
		}
	}
}

// TestFitsHeader checks that net/http preserves every text that FitsHeader accepts.
func TestFitsHeader(t *testing.T) {
	var text string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter,
		_ *http.Request) {
		w.Header().Set(HeaderKey, text)
	}))
	defer server.Close()
	for value, fits := range map[string]bool{
		"": true, "plain": true, "a b": true, "tür/门": true, " lead": false, "trail ": false, " ": false,
		"a\tb": false, "a\nb": false,
	} {
		if FitsHeader(value) != fits {
			t.Errorf("%q: %v", value, !fits)
		}
		if !fits {
			continue
		}
		text = value
		response, err := http.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := response.Header.Get(HeaderKey); got != value {
			t.Errorf("%q came back as %q", value, got)
		}
	}
}

func TestCheckStreamID(t *testing.T) {
	for _, id := range []string{"a", "_", "import-7.x_Y", strings.Repeat("x", MaxStreamID)} {
		if err := CheckStreamID(id); err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{"", "a/b", "a b", "a\n", "ä", "a?", "*", strings.Repeat("x", MaxStreamID+1)} {
		if err := CheckStreamID(id); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%q: %v", id, err)
		}
	}
}
