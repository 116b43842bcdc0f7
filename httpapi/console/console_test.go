package console

import (
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// consoleSources returns the console's files by name.
func consoleSources(t *testing.T) map[string]string {
	t.Helper()
	sources := map[string]string{}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		sources["console/"+name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) < 20 {
		t.Fatalf("only %d files found: the test looks in the wrong place", len(sources))
	}
	return sources
}

func get(h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestConsoleServes(t *testing.T) {
	h := New(func() []string { return []string{"http://10.0.0.2:8000", "https://Master.example"} }, "")
	for name, source := range consoleSources(t) {
		if mediaTypes[path.Ext(name)] == "" {
			t.Errorf("%s has no type in mediaTypes", name)
		}
		w := get(h, "GET", "/"+name)
		if w.Code != http.StatusOK || w.Body.String() != source {
			t.Errorf("%s: status %d, %d bytes, want those of the file", name, w.Code, w.Body.Len())
		}
		for header, want := range map[string]string{
			"Content-Type": mediaTypes[path.Ext(name)], "Permissions-Policy": noDevices,
			"Cache-Control": "no-cache",
		} {
			if got := w.Header().Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
		tag := w.Header().Get("ETag")
		if again := get(h, "GET", "/"+name, "If-None-Match", tag); tag == "" || again.Code != http.StatusNotModified ||
			again.Body.Len() != 0 {
			t.Errorf("%s: with its ETag %s: status %d, %d bytes", name, tag, again.Code, again.Body.Len())
		}
		if head := get(h, "HEAD", "/"+name); head.Code != http.StatusOK || head.Body.Len() != 0 {
			t.Errorf("%s: HEAD: status %d, %d bytes", name, head.Code, head.Body.Len())
		}
	}
	if w := get(h, "GET", "/"); !strings.Contains(w.Body.String(), `src="/console/js/main.js"`) {
		t.Errorf("/ is not the page: %s", w.Body)
	}
	for _, missing := range []string{"/console/", "/console/none.js", "/console/js", "/console/../console.go"} {
		if w := get(h, "GET", missing); w.Code != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", missing, w.Code)
		}
	}
}

func TestConsolePolicy(t *testing.T) {
	for _, row := range []struct {
		masters []string
		issuer  string
		connect string
	}{
		{nil, "", "'self'"},
		{[]string{"http://10.0.0.2:8000"}, "https://login.example",
			"'self' http://10.0.0.2:8000 https://login.example"},
		{nil, "https://login.example;script-src *", "'self'"},
		{[]string{"http://10.0.0.2:8000", "https://Master.example"}, "",
			"'self' http://10.0.0.2:8000 https://master.example"},
		{[]string{"http://10.0.0.2:8000/below?it=1"}, "", "'self' http://10.0.0.2:8000"},
		{[]string{"http://[::1]:8000", "ftp://10.0.0.2", "not a URL", "http://a;script-src *"}, "", "'self'"},
	} {
		want := "default-src 'self'; connect-src " + row.connect +
			"; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
		if got := get(New(func() []string { return row.masters }, row.issuer), "GET",
			"/").Header().Get("Content-Security-Policy"); got != want {
			t.Errorf("masters %q:\n%s\nwant\n%s", row.masters, got, want)
		}
	}
}

// TestConsoleNamesNoOtherHost checks that no file names another host, and that nothing is inline, which the content
// security policy would block.
func TestConsoleNamesNoOtherHost(t *testing.T) {
	address := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9][a-z0-9.-]*\.[a-z]{2,}[^\s'")]*`)
	inline := regexp.MustCompile(`(?i)<script(?:[^>]*)>[^<]|<style|\sstyle=|\son[a-z]+="|innerHTML|` +
		`outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function`)
	for name, source := range consoleSources(t) {
		for _, found := range address.FindAllString(source, -1) {
			if found != "http://www.w3.org/2000/svg" {
				t.Errorf("%s names %s", name, found)
			}
		}
		if found := inline.FindString(source); found != "" {
			t.Errorf("%s has %q: the policy allows nothing inline, and no text may become HTML", name, found)
		}
		if lines := strings.Count(source, "\n"); lines > 600 {
			t.Errorf("%s has %d lines", name, lines)
		}
	}
}

// dictionary reads the keys and texts of one of the console's languages.
func dictionary(t *testing.T, files map[string]string, language string) (keys []string, texts map[string]string) {
	t.Helper()
	texts = map[string]string{}
	source := ""
	for _, part := range []string{"audit-", "admin-", ""} {
		source += files["console/js/i18n/"+part+language+".js"]
	}
	// Join texts that are split over several lines.
	source = regexp.MustCompile(`' \+\n +'`).ReplaceAllString(source, "")
	source = regexp.MustCompile(`':\n +'`).ReplaceAllString(source, "': '")
	for _, line := range regexp.MustCompile(`(?m)^  '([^']+)': '((?:[^'\\]|\\.)*)',$`).FindAllStringSubmatch(source,
		-1) {
		if _, double := texts[line[1]]; double {
			t.Errorf("the key %s is there twice", line[1])
		}
		keys, texts[line[1]] = append(keys, line[1]), line[2]
	}
	if entries := strings.Count(source, "': '"); entries != len(keys) {
		t.Errorf("%d keys read of %d", len(keys), entries)
	}
	return keys, texts
}

// TestConsoleLanguages checks that both languages have the same keys in the same order, with the same placeholders in
// their texts, and that the console uses each key and no others.
func TestConsoleLanguages(t *testing.T) {
	files := consoleSources(t)
	keys, en := dictionary(t, files, "en")
	other, zh := dictionary(t, files, "zh")
	if !slices.Equal(keys, other) {
		t.Errorf("the languages differ in their keys or in their order: %v", difference(en, zh))
	}
	names := regexp.MustCompile(`\{(\w+)`)
	for _, key := range keys {
		if !maps.Equal(setOf(names.FindAllString(en[key], -1)), setOf(names.FindAllString(zh[key], -1))) {
			t.Errorf("%s: the names in %q are not those in %q", key, en[key], zh[key])
		}
		if en[key] == "" || zh[key] == "" {
			t.Errorf("%s has no text", key)
		}
	}
	used := map[string]bool{}
	var patterns []*regexp.Regexp // of keys that are composed at run time
	quoted := regexp.MustCompile("'([a-zA-Z_.]+)'|\\bt\\(`([^`]+)`")
	hole := regexp.MustCompile(`\\\$\\\{.*?\\\}`)
	for name, source := range files {
		if !strings.HasSuffix(name, ".js") || strings.Contains(name, "/i18n/") {
			continue
		}
		for _, m := range regexp.MustCompile(`\bt\('([^']+)'`).FindAllStringSubmatch(source, -1) {
			if _, ok := en[m[1]]; !ok {
				t.Errorf("%s wants the text of %s, and there is none", name, m[1])
			}
		}
		for _, m := range quoted.FindAllStringSubmatch(source, -1) {
			used[m[1]] = true
			if m[2] != "" {
				pattern := hole.ReplaceAllString(regexp.QuoteMeta(m[2]), `[\w-]+`)
				patterns = append(patterns, regexp.MustCompile("^"+pattern+"$"))
			}
		}
	}
	for _, key := range keys {
		if !used[key] && !slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(key) }) {
			t.Errorf("nothing shows the text of %s", key)
		}
	}
}

func setOf(names []string) map[string]bool {
	set := map[string]bool{}
	for _, name := range names {
		set[name] = true
	}
	return set
}

func difference(a, b map[string]string) (keys []string) {
	for key := range a {
		if _, ok := b[key]; !ok {
			keys = append(keys, key)
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// TestConsoleHasAllCodes checks that the console has a text for each code in both languages, and that the English text
// is that of the API.
func TestConsoleHasAllCodes(t *testing.T) {
	files := consoleSources(t)
	_, en := dictionary(t, files, "en")
	_, zh := dictionary(t, files, "zh")
	known := map[string]bool{}
	for _, c := range wire.Codes {
		key := "code." + c.Name
		known[key] = true
		if en[key] != c.English || zh[key] == "" {
			t.Errorf("%s: %q and %q, the API has %q", key, en[key], zh[key], c.English)
		}
	}
	for _, what := range []string{
		chain.WrongPayload, chain.WrongRoot, chain.WrongLink, chain.WrongWork, chain.WrongFrame, chain.WrongMissing,
		chain.WrongFile, chain.WrongShort, chain.WrongChain,
	} {
		known["finding."+what] = true
		if en["finding."+what] == "" || zh["finding."+what] == "" {
			t.Errorf("no text of the finding %s", what)
		}
	}
	for key := range en {
		if (strings.HasPrefix(key, "code.") || strings.HasPrefix(key, "finding.")) && !known[key] {
			t.Errorf("there is no such code: %s", key)
		}
	}
}

// TestConsoleHasAllActs checks that the console reads the audit trail with the numbers of package trail, and has a text
// for each act and actor in both languages.
func TestConsoleHasAllActs(t *testing.T) {
	files := consoleSources(t)
	_, en := dictionary(t, files, "en")
	_, zh := dictionary(t, files, "zh")
	source := files["console/js/trail.js"]
	acts := ""
	for _, act := range trail.Acts() {
		acts += fmt.Sprintf("%d: '%s', ", act, act)
		if key := "act." + act.String(); en[key] == "" || zh[key] == "" {
			t.Errorf("no text of %s", key)
		}
	}
	compare := func(list, want string) {
		t.Helper()
		pattern := `const ` + list + ` = [[{]\s*(?:null, )?([^\]}]*?),?\s*[\]}];`
		got := regexp.MustCompile(pattern).FindStringSubmatch(source)
		if got == nil || strings.Join(strings.Fields(got[1]), " ") != strings.TrimSuffix(want, ", ") {
			t.Errorf("the console has the %s %q, package trail has %q", list, got, want)
		}
	}
	compare("acts", acts)
	compare("phases", namesFrom(trail.Done))
	compare("outcomes", namesFrom(trail.Succeeded))
	compare("actors", namesFrom(trail.ByLeader))
	compare("roles", namesFrom(trail.NoRole))
	compare("targets", namesFrom(trail.OfGroup))
	for kind := trail.ByLeader; kind.Known(); kind++ {
		if key := "actor." + kind.String(); en[key] == "" || zh[key] == "" {
			t.Errorf("no text of %s", key)
		}
	}
	if !strings.Contains(source, "'"+trail.Type+"'") {
		t.Error("the console has another type of the records")
	}
}

// namesFrom returns the names of all numbers from first on, up to the first that has none.
func namesFrom[T interface {
	~uint8
	fmt.Stringer
}](first T) (names string) {
	for number := first; !strings.HasSuffix(number.String(), fmt.Sprintf("-%d", uint8(number))); number++ {
		names += "'" + number.String() + "', "
	}
	return names
}
