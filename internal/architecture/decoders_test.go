package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// decoders are the functions that read bytes of other processes or of disks, each with the fuzz target that reaches
// it: "FuzzX" of the same folder or "folder FuzzX". A text after "-" is why there is none.
var decoders = map[string]string{
	"chain ParseBlock":  "FuzzParseBlock",
	"chain ParseHead":   "FuzzParseHead",
	"chain ParseHeader": "FuzzParseHeader",
	"chain ParseLeaf":   "FuzzParseLeaf",
	"chain ParseRecord": "FuzzParseRecord",

	"httpapi/legacy parseText":             "FuzzParseText",
	"httpapi/masterapi parseFrames":        "wire FuzzParseFrames",
	"httpapi/masterapi parseNDJSON":        "FuzzParseNDJSON",
	"httpapi/masterapi parseLine":          "FuzzParseNDJSON",
	"httpapi/masterapi parseFrame":         "FuzzRecordSource",
	"internal/certs ParseAll":              "- packages pem and x509 decode a file of the operator",
	"internal/certs Parse":                 "- packages pem and x509 decode a file of the operator",
	"internal/exchange readUpTo":           "- no decoder: it reads the bytes of an answer up to a limit",
	"internal/nodeauth decodeInto":         "FuzzProof",
	"internal/nodeauth parseHello":         "FuzzSession",
	"internal/noderpc readChainBlock":      "FuzzReadChainBlock",
	"internal/secrets Parse":               "FuzzParse",
	"masterfsm ParsePlacements":            "FuzzParsePlacements",
	"masterfsm decode":                     "FuzzApply",
	"masterfsm parseAppend":                "FuzzApply",
	"masterfsm parseSubmission":            "FuzzCheckSubmission",
	"masterfsm unmarshalStrictly":          "FuzzApply",
	"masterfsm Cause.UnmarshalJSON":        "FuzzApply",
	"raftstore/logstore decodeEntry":       "FuzzScan",
	"raftstore/logstore parseKeys":         "FuzzLogKeys",
	"raftstore/logstore parseMark":         "FuzzMark",
	"raftstore/raftconfig parsePage":       "FuzzCheckLog",
	"raftstore/raftconfig read":            "FuzzCheckLog",
	"raftstore/transport parseStart":       "FuzzStarts",
	"raftstore/transport readHello":        "FuzzReadHello",
	"storagenode parseBlock":               "chain FuzzParseBlock",
	"storagenode/audit ReadAt":             "- no decoder: it returns an error",
	"storagenode/blockindex parseEntry":    "storagenode FuzzIndex",
	"storagenode/inbox Decode":             "FuzzInbox",
	"storagenode/records parseEntry":       "FuzzOpen",
	"storagenode/records parseHead":        "FuzzOpen",
	"storagenode/recordends Read":          "FuzzSpan",
	"storagenode/recordends readTable":     "FuzzSpan",
	"storagenode/segment ReadFrame":        "FuzzFrames",
	"storagenode/tiles decode":             "- no decoder: it copies hashes",
	"verify ParseState":                    "FuzzParseState",
	"verify decodeStrict":                  "FuzzReceipt",
	"verify parseBundle":                   "FuzzParseBundle",
	"verify parseEntry":                    "FuzzParseBundle",
	"verify parseReceipt":                  "FuzzReceipt",
	"verify/export parseEnd":               "FuzzRead",
	"verify/export parseGroup":             "FuzzRead",
	"chain Hash.UnmarshalText":             "- hex digits of a fixed length",
	"internal/durable Decode":              "storagenode/folder FuzzSynced",
	"raftstore/transport readVerdict":      "- a byte and its MAC, of a fixed length",
	"storagenode/tiles read":               "- no decoder: it reads hashes, which are compared with the tree",
	"wire Args.UnmarshalJSON":              "FuzzMessage",
	"wire ParseEntries":                    "FuzzParseEntries",
	"wire ParseFrames":                     "FuzzParseFrames",
	"wire ParsePlaces":                     "FuzzParsePlaces",
	"wire ParseProvenHeaders":              "FuzzParseProvenHeaders",
	"wire ParseProvenRecord":               "FuzzParseProvenRecord",
	"wire ParseTileData":                   "FuzzParseTileData",
	"wire ParseTiles":                      "FuzzParseTiles",
	"wire parsePath":                       "FuzzParseProvenRecord",
	"storagenode/records parseLayout":      "FuzzOpen",
	"storagenode/recordends ReadRecords":   "- no decoder: it reads bytes of a block",
	"storagenode/segment ReadPart":         "FuzzEncrypted",
	"storagenode/segment decodePage":       "FuzzEncrypted",
	"storagenode/segment readPage":         "FuzzEncrypted",
	"internal/atrest parseKeys":            "FuzzKeys",
	"internal/oidc parseKeys":              "FuzzParseKeys",
	"internal/oidc audience.UnmarshalJSON": "FuzzIdentify",
	"masterfsm parseAct":                   "FuzzApply",
	"wire/trail Act.UnmarshalText":         "- a name of a fixed table",
	"wire/trail ActorKind.UnmarshalText":   "- a name of a fixed table",
	"wire/trail Outcome.UnmarshalText":     "- a name of a fixed table",
	"wire/trail Phase.UnmarshalText":       "- a name of a fixed table",
	"wire/trail Role.UnmarshalText":        "- a name of a fixed table",
	"wire/trail TargetKind.UnmarshalText":  "- a name of a fixed table",
	"wire/trail Parse":                     "FuzzParse",
	"wire/trail ParseActor":                "FuzzParse",
	"wire/trail ParseSource":               "FuzzParse",
	"wire/trail parseName":                 "- a name of a fixed table",
	"wire/trail parseValues":               "FuzzParse",
}

// decoderName matches the names of functions that decode, if they take bytes.
var decoderName = regexp.MustCompile(`^([Pp]arse|[Dd]ecode|[Uu]nmarshal|[Rr]ead)`)

// TestDecodersAreFuzzed checks that decoders lists every function that decodes bytes, and that `make fuzz` has its
// fuzz target, which is any function with the name of one.
func TestDecodersAreFuzzed(t *testing.T) {
	found, targets := map[string]bool{}, map[string]bool{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			// The other modules and the tests read nothing that a process of a user depends on.
			name := entry.Name()
			skipped := name == "testdata" || name == "bench" || name == "e2e"
			if file != root && (skipped || strings.HasPrefix(name, ".")) {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(file, ".go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		folder = filepath.ToSlash(folder)
		for _, decl := range parsed.Decls {
			f, ok := decl.(*ast.FuncDecl)
			switch {
			case !ok:
			case strings.HasSuffix(file, "_test.go"):
				if strings.HasPrefix(f.Name.Name, "Fuzz") {
					targets[folder+" "+f.Name.Name] = true
				}
			case f.Name.Name == "Read" && f.Recv != nil: // an io.Reader
			case decoderName.MatchString(f.Name.Name) && takesBytes(f):
				found[folder+" "+nameOf(f)] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range found {
		target, listed := decoders[name]
		folder, _, _ := strings.Cut(name, " ")
		switch {
		case !listed:
			t.Errorf("%s decodes bytes and is not in the list: add it with its fuzz target", name)
		case strings.HasPrefix(target, "- "):
		case !targets[target] && !targets[folder+" "+target]:
			t.Errorf("%s: there is no fuzz target %s", name, target)
		}
	}
	for name := range decoders {
		if !found[name] {
			t.Errorf("%s is in the list, and there is no such decoder", name)
		}
	}
}

// nameOf is the name of a function, with its receiver for UnmarshalJSON and the like.
func nameOf(f *ast.FuncDecl) string {
	if !strings.HasPrefix(f.Name.Name, "Unmarshal") || f.Recv == nil {
		return f.Name.Name
	}
	receiver := f.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	return receiver.(*ast.Ident).Name + "." + f.Name.Name
}

// takesBytes reports whether a parameter is a slice of bytes or a reader.
func takesBytes(f *ast.FuncDecl) bool {
	for _, p := range f.Type.Params.List {
		switch typ := p.Type.(type) {
		case *ast.ArrayType:
			if element, ok := typ.Elt.(*ast.Ident); ok && element.Name == "byte" {
				return true
			}
		case *ast.SelectorExpr:
			if pkg, ok := typ.X.(*ast.Ident); ok && pkg.Name == "io" && strings.HasPrefix(typ.Sel.Name, "Reader") {
				return true
			}
		case *ast.StarExpr:
			if sel, ok := typ.X.(*ast.SelectorExpr); ok && sel.Sel.Name == "Reader" {
				return true
			}
		}
	}
	return false
}
