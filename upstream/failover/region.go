package failover

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Regions returns the endpoints of the vendor's data centres by name, each main
// one first: cn is mainland China, sg is Singapore, for all other countries.
func Regions() map[string][]string {
	return map[string][]string{
		"cn": {"https://open.yunxinapi.com", "https://open-bak.yunxinapi.com"},
		"sg": {"https://open-sg.yunxinapi.com", "https://open-sg-bak.yunxinapi.com"},
	}
}

// Endpoints puts the endpoints of regions in the place of their names, and passes
// URLs on as they are, all in the given order and each once. What is neither is an
// error; the error repeats nothing of a URL, which may hold a password.
//
// Regions may be mixed, but that is wrong for one app: an app lives in one data
// centre, and the other one answers that it does not exist.
func Endpoints(names []string) ([]string, error) {
	return expand("endpoint", names, Regions())
}

// expand puts URLs in the place of names. What says what they are the URLs of.
func expand(what string, names []string, known map[string][]string) ([]string, error) {
	var expanded []string
	seen := make(map[string]bool)
	var errs []error
	for i, name := range names {
		urls, ok := known[name]
		if !ok {
			if err := CheckURL(name); err != nil {
				list := strings.Join(slices.Sorted(maps.Keys(known)), ", ")
				errs = append(errs, fmt.Errorf("%s no. %d %w (known names: %s)", what, i+1, err, list))
			}
			urls = []string{name}
		}
		for _, u := range urls {
			// A closing slash makes no difference to what is called.
			if key := strings.TrimRight(u, "/"); !seen[key] {
				seen[key] = true
				expanded = append(expanded, u)
			}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return expanded, nil
}

// CheckURL reports what is wrong with a base URL. It repeats no part that may be secret.
func CheckURL(text string) error {
	_, err := baseURL(text)
	return err
}

func baseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case strings.Contains(text, "@"):
		return nil, errors.New("must not hold a user name or password")
	case err != nil:
		return nil, errors.New("is not a URL")
	case u.RawQuery != "" || u.ForceQuery:
		return nil, fmt.Errorf("with host %q must not hold a query", u.Host)
	case u.Fragment != "" || strings.HasSuffix(text, "#"):
		return nil, fmt.Errorf("with host %q must not hold a fragment", u.Host)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q must begin with https:// or http://", text)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q has no host", text)
	default:
		return u, nil
	}
}
