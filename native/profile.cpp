// What a training step spends its time on, operator by operator, for the benchmarks. libtorch tells of every operator that it runs, those of
// backward too; while nothing is recorded it has nobody to tell, so this costs nothing then.
//
// Time is an operator's own: what the operators that it calls take is theirs. Regions are numbers that the caller gives to stretches of a
// forward pass; backward's operators belong to the region whose operator made the graph's node, which libtorch numbers alike in both.
#include "bridge.h"

#include <ATen/record_function.h>
#include <time.h>

namespace tessera {

namespace {

struct Clocks {
    int64_t wall, cpu;
};

int64_t nanoseconds(clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// The second is the processor time of all threads of the process: what an operator costs whoever else wants the cores.
Clocks now() { return {nanoseconds(CLOCK_MONOTONIC), nanoseconds(CLOCK_PROCESS_CPUTIME_ID)}; }

struct Total {
    std::string name, shapes;
    int32_t region = 0;
    bool backward = false;
    int64_t calls = 0, wall = 0, cpu = 0;
};

// An operator that runs now.
struct Frame {
    Total* total;
    Clocks start, inner;
    int32_t region;
    bool backward, shaped;
};

struct Profile {
    at::CallbackHandle handle = 0;
    bool on = false;
    int32_t region = 0;
    std::unordered_set<std::string> shaped;
    std::unordered_map<std::string, Total> totals;
    std::unordered_map<int64_t, int32_t> regionOfNode;
    std::vector<Frame> frames;
};

Profile& profile() {
    static auto* one = new Profile;
    return *one;
}

template <class List>
std::string listed(const List& list) {
    std::string text = "[";
    for (const auto& each : list) text += (text.size() > 1 ? "," : "") + std::to_string(each);
    return text + "]";
}

// Arguments as JSON: the sizes of a tensor, numbers and lists of them as they are, null for all else.
std::string shapesOf(const at::RecordFunction& fn) {
    std::string text = "[";
    for (const c10::IValue& value : fn.inputs()) {
        if (text.size() > 1) text += ",";
        if (value.isTensor() && value.toTensor().defined()) text += listed(value.toTensor().sizes());
        else if (value.isIntList()) text += listed(value.toIntVector());
        else if (value.isInt()) text += std::to_string(value.toInt());
        else if (value.isBool()) text += value.toBool() ? "true" : "false";
        else if (value.isBoolList()) {
            std::string flags = "[";
            for (const bool each : value.toBoolList()) flags += std::string(flags.size() > 1 ? "," : "") + (each ? "true" : "false");
            text += flags + "]";
        } else text += "null";
    }
    return text + "]";
}

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& fn) {
    Profile& p = profile();
    const bool node = fn.scope() == at::RecordScope::BACKWARD_FUNCTION;
    Frame frame{nullptr, {}, {0, 0}, p.region, node, false};
    if (node) {
        auto found = p.regionOfNode.find(fn.seqNr());
        frame.region = found == p.regionOfNode.end() ? 0 : found->second;
    } else if (!p.frames.empty()) {
        frame.region = p.frames.back().region;
        frame.backward = p.frames.back().backward;
    }
    if (!frame.backward && fn.seqNr() >= 0) p.regionOfNode[fn.seqNr()] = frame.region;
    const std::string name = fn.name();
    // Inside an operator of which shapes are wanted nothing is counted again: autocast calls an operator by its own name.
    const bool inside = !p.frames.empty() && p.frames.back().shaped;
    const bool wanted = !inside && p.shaped.count(name) > 0;
    frame.shaped = inside || wanted;
    const std::string shapes = wanted ? shapesOf(fn) : std::string();
    Total& total = p.totals[name + '|' + std::to_string(frame.region) + (frame.backward ? 'b' : 'f') + shapes];
    if (total.calls == 0) {
        total.name = name;
        total.shapes = shapes;
        total.region = frame.region;
        total.backward = frame.backward;
    }
    total.calls++;
    frame.total = &total;  // an unordered_map's elements stay where they are
    frame.start = now();
    p.frames.push_back(frame);
    return nullptr;
}

void end(const at::RecordFunction&, at::ObserverContext*) {
    Profile& p = profile();
    if (p.frames.empty()) return;
    const Frame frame = p.frames.back();
    p.frames.pop_back();
    const Clocks stop = now();
    const int64_t wall = stop.wall - frame.start.wall, cpu = stop.cpu - frame.start.cpu;
    frame.total->wall += wall - frame.inner.wall;
    frame.total->cpu += cpu - frame.inner.cpu;
    if (p.frames.empty()) return;
    p.frames.back().inner.wall += wall;
    p.frames.back().inner.cpu += cpu;
}

// profileStart(names): records from now on; of operators with these names ("aten::mm") the shapes too.
napi_value profileStart(napi_env env, size_t, napi_value* argv) {
    Profile& p = profile();
    if (p.on) badArgument("a profile is being recorded; stop it first");
    uint32_t count = 0;
    check(napi_get_array_length(env, argv[0], &count));
    p.shaped.clear();
    for (uint32_t i = 0; i < count; ++i) {
        napi_value name;
        check(napi_get_element(env, argv[0], i, &name));
        p.shaped.insert(utf8(env, name));
    }
    p.totals.clear();
    p.regionOfNode.clear();
    p.frames.clear();
    p.region = 0;
    p.handle = at::addThreadLocalCallback(
        at::RecordFunctionCallback(begin, end).needsInputs(true).scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
    p.on = true;
    return nullptr;
}

// profileRegion(number): operators belong to it from now on; returns the region before.
napi_value profileRegion(napi_env env, size_t, napi_value* argv) {
    Profile& p = profile();
    const int32_t before = p.region;
    p.region = static_cast<int32_t>(integer(env, argv[0], "region"));
    return makeNumber(env, before);
}

// profileStop(): [{ name, shapes, region, backward, calls, wall, cpu }], times in milliseconds.
napi_value profileStop(napi_env env, size_t, napi_value*) {
    Profile& p = profile();
    if (!p.on) badArgument("no profile is being recorded");
    at::removeCallback(p.handle);
    p.on = false;
    napi_value out;
    check(napi_create_array_with_length(env, p.totals.size(), &out));
    uint32_t i = 0;
    for (const auto& [key, total] : p.totals) {
        napi_value each;
        check(napi_create_object(env, &each));
        auto set = [&](const char* name, napi_value value) { check(napi_set_named_property(env, each, name, value)); };
        set("name", makeString(env, total.name));
        set("shapes", makeString(env, total.shapes));
        set("region", makeNumber(env, total.region));
        set("backward", makeBool(env, total.backward));
        set("calls", makeNumber(env, static_cast<double>(total.calls)));
        set("wall", makeNumber(env, static_cast<double>(total.wall) / 1e6));
        set("cpu", makeNumber(env, static_cast<double>(total.cpu) / 1e6));
        check(napi_set_element(env, out, i++, each));
    }
    p.totals.clear();
    p.regionOfNode.clear();
    return out;
}

}  // namespace

void exportProfile(napi_env env, napi_value exports) {
    addFunction(env, exports, "profileStart", guarded<profileStart>);
    addFunction(env, exports, "profileRegion", guarded<profileRegion>);
    addFunction(env, exports, "profileStop", guarded<profileStop>);
}

}  // namespace tessera
