package harbor

import "testing"

func TestSchedulesHaveOneForm(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "none",
		"none":              "none",
		"0 3 * * *":         "0 0 3 * * *",
		"0 0 3 * * *":       "0 0 3 * * *",
		"  0 0  3 * * ? ":   "0 0 3 * * *",
		"@daily":            "0 0 0 * * *",
		"@weekly":           "0 0 0 * * 0",
		"0 0 4 * * SUN":     "0 0 4 * * 0",
		"0 4 1 jan-mar mon": "0 0 4 1 1-3 1",
		"@every 1h":         "0 0 * * * *",
		"@every 6h":         "0 0 */6 * * *",
		"@every 15m":        "0 */15 * * * *",
		"@every 1d":         "0 0 0 * * *",
		"@every 7h":         "@every 7h",
		"00 05 03 * * 0":    "0 5 3 * * 0",
		"0 10 20 100 * *":   "0 10 20 100 * *",
	} {
		if have := sixFields(in); have != want {
			t.Errorf("%q becomes %q, want %q", in, have, want)
		}
		if again := sixFields(want); again != want {
			t.Errorf("%q becomes %q the second time", want, again)
		}
	}
}

func TestSchedulesThatHarborHasNotAreNamed(t *testing.T) {
	for in, bad := range map[string]bool{"none": false, "@daily": false, "0 3 * * *": false, "@every 1h": false, "@every 7h": true, "30 0 3 * * *": true} {
		if why := unschedulable(in); (why != "") != bad {
			t.Errorf("%q: %q", in, why)
		}
	}
	if cron("none") != "" || cron("@daily") != "0 0 0 * * *" {
		t.Error("cron is not Harbor's word")
	}
}
