// C++ exceptions in, JavaScript errors out.
#include "bridge.h"

#include <c10/util/Exception.h>

#include <new>

namespace tessera {

void fail(ErrorKind kind, std::string message, std::string cause) {
    throw Failure{kind, std::move(message), std::move(cause)};
}

static std::string firstLine(const std::string& text) {
    auto end = text.find('\n');
    return end == std::string::npos ? text : text.substr(0, end);
}

static bool saysOutOfMemory(const std::string& text) {
    return text.find("can't allocate memory") != std::string::npos || text.find("not enough memory") != std::string::npos ||
           text.find("out of memory") != std::string::npos;
}

static void throwJs(napi_env env, const Failure& failure) {
    State& s = state();
    napi_value message = makeString(env, failure.message);
    // A thread that is refused the engine must not touch the classes of the thread that has it.
    napi_ref ref = env == s.env ? s.errorClasses[static_cast<size_t>(failure.kind)] : nullptr;
    napi_value constructor = nullptr, error = nullptr;
    if (ref && napi_get_reference_value(env, ref, &constructor) == napi_ok && constructor) {
        napi_value args[2] = {message, nullptr};
        size_t count = 1;
        if (!failure.cause.empty()) {
            napi_value options, cause;
            napi_create_object(env, &options);
            napi_create_error(env, nullptr, makeString(env, failure.cause), &cause);
            napi_set_named_property(env, options, "cause", cause);
            args[count++] = options;
        }
        napi_new_instance(env, constructor, count, args, &error);
    }
    if (!error) napi_create_error(env, nullptr, message, &error);
    if (error) napi_throw(env, error);
}

static void translate(napi_env env, const std::string& where) {
    const std::string prefix = where.empty() ? std::string() : where + ": ";
    Failure failure{ErrorKind::Operator, {}, {}};
    try {
        throw;
    } catch (const Pending&) {
        return;  // already on its way
    } catch (const Failure& given) {
        failure = given;
        failure.message = prefix + failure.message;
    } catch (const c10::Error& error) {
        std::string text = error.what_without_backtrace();
        failure = {saysOutOfMemory(text) ? ErrorKind::OutOfMemory : ErrorKind::Operator, prefix + firstLine(text), error.what()};
    } catch (const std::bad_alloc& error) {
        failure = {ErrorKind::OutOfMemory, prefix + "out of memory", error.what()};
    } catch (const std::exception& error) {
        std::string text = error.what();
        failure = {saysOutOfMemory(text) ? ErrorKind::OutOfMemory : ErrorKind::Operator, prefix + firstLine(text), text};
    } catch (...) {
        failure = {ErrorKind::Operator, prefix + "internal: an exception of unknown type", {}};
    }
    throwJs(env, failure);
}

void throwCurrent(napi_env env, const std::string& where) noexcept {
    try {
        translate(env, where);
    } catch (...) {
        // Even making the error failed: this thread is being terminated, or a JavaScript exception is pending already.
        bool pending = false;
        if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) napi_throw_error(env, nullptr, "internal: an error could not be told");
    }
}

}  // namespace tessera
